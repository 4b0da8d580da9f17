//! Parameters by path: create them empty, list, fill and read them.

use crate::{ModelError, scope};
use burn::backend::{DispatchTensor, TensorMetadata};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

/// The value of one parameter, of any rank.
#[derive(Clone, Debug)]
pub struct ParameterTensor(DispatchTensor);

impl ParameterTensor {
    /// Wraps a float tensor without copying it.
    pub fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        Self(tensor.into_dispatch())
    }

    /// Wraps a rank-free float tensor without copying it.
    pub fn from_dispatch(tensor: DispatchTensor) -> Self {
        Self(tensor)
    }

    /// Its dimensions.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// Its values on the host, in its dtype; `None` if it has more than four dimensions or the device fails.
    pub fn into_data(self) -> Option<TensorData> {
        match self.0.shape().num_dims() {
            1 => self.tensor::<1>()?.try_into_data().ok(),
            2 => self.tensor::<2>()?.try_into_data().ok(),
            3 => self.tensor::<3>()?.try_into_data().ok(),
            4 => self.tensor::<4>()?.try_into_data().ok(),
            _ => None,
        }
    }

    /// As a tensor of rank `D`; `None` if it has another rank or is not floating.
    pub fn tensor<const D: usize>(self) -> Option<Tensor<D>> {
        (self.0.shape().num_dims() == D && self.0.dtype().is_float()).then(|| Tensor::from_dispatch(self.0))
    }
}

/// A parameter without a value. Inside a [`scope::RealAllocation`] it is zeroed instead. Using it before a value was
/// assigned panics with its shape: the loader checks that none is left.
pub fn empty<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    if scope::real_allocation() {
        let zeros = Tensor::zeros(shape, (device, DType::from(scope::default_dtype())));
        return Param::initialized(ParamId::new(), zeros);
    }
    let not_loaded = move |_: &Device, _: bool| -> Tensor<D> {
        panic!("a parameter of shape {shape:?} was used before its value was loaded")
    };
    Param::uninitialized(ParamId::new(), not_loaded, device.clone(), false, Shape::from(shape))
}

/// Calls `visit` with path and shape of every parameter of `module`.
pub fn visit<M: Module>(module: &M, visit: &mut dyn FnMut(&str, &[usize])) {
    module.visit(&mut Walk { path: Path::default(), each: &mut |path, param| visit(path, &param.shape()) });
}

/// Calls `read` with path and value of every parameter of `module`.
pub fn read<M: Module>(module: &M, read: &mut dyn FnMut(&str, ParameterTensor)) {
    module.visit(&mut Walk { path: Path::default(), each: &mut |path, param| read(path, param.value()) });
}

/// Replaces every parameter of `module` that `provide` has a value for.
///
/// # Errors
/// [`ModelError::ParameterShape`]; the parameter keeps what it had.
pub fn assign<M: Module>(
    module: M,
    provide: &mut dyn FnMut(&str) -> Option<ParameterTensor>,
) -> (M, Result<(), ModelError>) {
    let mut fill = Fill { path: Path::default(), provide, outcome: Ok(()) };
    let module = module.map(&mut fill);
    (module, fill.outcome)
}

/// The dotted path of the field being visited. Enum variants are no part of it: `self_attn.q_proj.weight`, whichever
/// mixer stands in `self_attn`.
#[derive(Default)]
struct Path {
    dotted: String,
    lengths: Vec<usize>,
    /// Levels inside a quantised weight, whose parts are not parameters of their own.
    inside_quantized: usize,
}

impl Path {
    fn enter(&mut self, name: &str, container_type: &str) {
        self.lengths.push(self.dotted.len());
        if self.inside_quantized > 0 || container_type == "Struct:QuantLinear" {
            self.inside_quantized += 1;
        }
        if container_type.starts_with("Enum:") {
            return;
        }
        if !self.dotted.is_empty() {
            self.dotted.push('.');
        }
        self.dotted.push_str(name);
    }

    fn exit(&mut self) {
        self.inside_quantized = self.inside_quantized.saturating_sub(1);
        if let Some(length) = self.lengths.pop() {
            self.dotted.truncate(length);
        }
    }
}

trait AnyParam {
    fn shape(&self) -> Vec<usize>;
    fn value(&self) -> ParameterTensor;
}

impl<const D: usize> AnyParam for Param<Tensor<D>> {
    fn shape(&self) -> Vec<usize> {
        self.lazy_shape().to_vec()
    }

    fn value(&self) -> ParameterTensor {
        ParameterTensor::new(self.val())
    }
}

struct Walk<'a> {
    path: Path,
    each: &'a mut dyn FnMut(&str, &dyn AnyParam),
}

impl ModuleVisitor for Walk<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.path.inside_quantized == 0 {
            (self.each)(&self.path.dotted, param);
        }
    }
}

struct Fill<'a> {
    path: Path,
    provide: &'a mut dyn FnMut(&str) -> Option<ParameterTensor>,
    outcome: Result<(), ModelError>,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let inside = self.path.inside_quantized > 0;
        let Some(value) = (!inside).then(|| (self.provide)(&self.path.dotted)).flatten() else { return param };
        let (expected, found) = (param.lazy_shape().to_vec(), value.shape());
        match value.tensor::<D>() {
            Some(tensor) if expected == found => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            _ => {
                let parameter = self.path.dotted.clone();
                self.outcome = Err(ModelError::ParameterShape { parameter, expected, found });
                param
            }
        }
    }
}
