//! Weights of one shape and scheme packed into one buffer of a GPU: the experts of a mixture, some of which the device routes to.

use burn::backend::{
    Backend, Dispatch, DispatchDevice, DispatchTensor, backend_extension,
    fusion::custom::TensorSpec,
    tensor::{FloatTensor, IntTensor},
};
use burn::module::Param;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::{QuantLinear, cube, table16::Table16};

/// Rows of a result, and weights chosen for all rows together, that a launch takes at most: a limit that every device has.
const MOST: usize = 65_535;

/// How the weights of a stack are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StackEncoding {
    Dense(DType),
    Table16(Table16),
}

/// The shape of a product with chosen weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StackPlan {
    pub encoding: StackEncoding,
    /// `[out, in]` of one weight.
    pub shape: [usize; 2],
    /// Choices that there are, and weights that each stands for.
    pub count: usize,
    pub parts: usize,
    /// Weights chosen for a row.
    pub choices: usize,
    /// Whether the products of a row are weighted and added.
    pub sums: bool,
    /// Bytes from a weight to the next, of its scales, and of the codes of these.
    pub distances: [usize; 3],
}

impl StackPlan {
    fn result(&self, rows: usize) -> [usize; 2] {
        let [out_features, _] = self.shape;
        if self.sums { [rows / self.choices, out_features] } else { [rows * self.choices, self.parts * out_features] }
    }
}

/// Memory that several tensors share, and products with it.
#[allow(clippy::too_many_arguments, reason = "fusion takes tensors one by one")]
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait StackOps: Backend {
    /// Persistent memory of `bytes` bytes on the device of `like`, not initialised.
    #[fusion(meta = |_like, bytes| TensorSpec::new([*bytes].into(), DType::U8))]
    fn stack_room(like: FloatTensor<Self>, bytes: usize) -> IntTensor<Self>;

    /// Copies whole words to the byte `at`, and returns the same memory.
    #[fusion(meta = |stack, _part, _at| stack.clone())]
    fn stack_ints(stack: IntTensor<Self>, part: IntTensor<Self>, at: usize) -> IntTensor<Self>;

    /// As [`stack_ints`](Self::stack_ints).
    #[fusion(meta = |stack, _part, _at| stack.clone())]
    fn stack_floats(stack: IntTensor<Self>, part: FloatTensor<Self>, at: usize) -> IntTensor<Self>;

    /// The part of the memory that begins at the byte `at`, as bytes of that shape.
    #[fusion(meta = |_stack, _at, bytes| TensorSpec::new([*bytes].into(), DType::U8))]
    fn part_of_ints(stack: IntTensor<Self>, at: usize, bytes: usize) -> IntTensor<Self>;

    /// The part of the memory that begins at the byte `at`, as floats of that shape, of which one axis is as good as none.
    #[fusion(meta = |_stack, _at, shape, dtype| TensorSpec::new((*shape).into(), *dtype))]
    fn part_of_floats(stack: IntTensor<Self>, at: usize, shape: [usize; 2], dtype: DType) -> FloatTensor<Self>;

    /// Products of rows of `x` with the weights of a stack that int32 `chosen` `[rows, choices]` has for each. What the plan has no
    /// use for is any tensor.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from(plan.result(x[0])))]
    fn stack_product(
        x: FloatTensor<Self>,
        weights: IntTensor<Self>,
        absmax: IntTensor<Self>,
        absmax_codes: IntTensor<Self>,
        chosen: IntTensor<Self>,
        factors: FloatTensor<Self>,
        plan: StackPlan,
    ) -> FloatTensor<Self>;
}

/// Weights `[out, in]` that are alike in shape and encoding, in one piece of a GPU's memory, so that a kernel finds those that the
/// device has chosen for a row of activations: the host need not know the choice.
///
/// The layers that a stack is made of remain what they are: their tensors become parts of its memory.
///
/// ```no_run
/// use automodel_quant::{QuantLinear, WeightStack};
/// use burn::tensor::{Int, Tensor};
///
/// // Experts on a GPU, and which two of them are wanted for each row of activations.
/// fn products(experts: &mut [QuantLinear], x: Tensor<2>, chosen: &Tensor<2, Int>) -> Option<Tensor<2>> {
///     let stack = WeightStack::of_quantized(experts.iter_mut().collect(), 1)?;
///     Some(stack.products(x, chosen))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct WeightStack {
    encoding: StackEncoding,
    shape: [usize; 2],
    count: usize,
    parts: usize,
    weights: Memory,
    /// Scales of 4-bit weights, and the codes of nested ones.
    absmax: Option<Memory>,
    absmax_codes: Option<Memory>,
}

impl WeightStack {
    /// The weights of 4-bit layers, `parts` of them for each choice. `None`, and the layers as before, where they are not alike, where
    /// their rows are not multiples of eight codes, and on devices without kernels.
    pub fn of_quantized(mut layers: Vec<&mut QuantLinear>, parts: usize) -> Option<Self> {
        let first = layers.first()?;
        let layout = first.layout();
        let device = stacking_device(&first.codes.val().device())?;
        let sizes = |layer: &QuantLinear| {
            let codes = layer.scale_codes.as_ref().map(|codes| codes.val().dims()[0]);
            (layer.layout(), layer.codes.val().dims()[0], layer.scales.val().dims()[0], codes)
        };
        let (_, bytes, scales, scale_codes) = sizes(first);
        let are_alike = layers.iter().all(|layer| {
            sizes(layer) == (layout, bytes, scales, scale_codes)
                && layer.scales.val().dtype() == DType::F32
                && layer.codes.val().device() == device
        });
        let [out_features, in_features] = layout.shape;
        if !are_alike
            || !in_features.is_multiple_of(8)
            || bytes as u64 != layout.scheme.code_bytes(layout.shape)?.next_multiple_of(4)
        {
            return None;
        }
        let count = choices(layers.len(), parts, out_features)?;
        let room = |bytes: usize| Memory::new(bytes, layers.len(), &device);
        let (mut weights, mut absmax) = (room(bytes)?, room(scales * size_of::<f32>())?);
        let mut absmax_codes = match scale_codes {
            Some(bytes) => Some(room(bytes)?),
            None => None,
        };
        for (index, layer) in layers.iter_mut().enumerate() {
            weights.put_ints(index, &mut layer.codes);
            absmax.put_floats(index, &mut layer.scales);
            if let (Some(memory), Some(codes)) = (&mut absmax_codes, &mut layer.scale_codes) {
                memory.put_ints(index, codes);
            }
        }
        let encoding = StackEncoding::Table16(layout.scheme.table16()?);
        Some(Self { encoding, shape: layout.shape, count, parts, weights, absmax: Some(absmax), absmax_codes })
    }

    /// Dense weights, as [`of_quantized`](Self::of_quantized).
    pub fn of_dense(mut layers: Vec<&mut Param<Tensor<2>>>, parts: usize) -> Option<Self> {
        let first = layers.first()?.val();
        let device = stacking_device(&first.device())?;
        let (shape, dtype) = (first.dims(), first.dtype());
        let are_alike = layers.iter().all(|layer| {
            let layer = layer.val();
            (layer.dims(), layer.dtype(), layer.device()) == (shape, dtype, device.clone())
        });
        if !are_alike || !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
            return None;
        }
        let count = choices(layers.len(), parts, shape[0])?;
        let bytes = shape[0].checked_mul(shape[1])?.checked_mul(dtype.size())?;
        let mut weights = Memory::new(bytes, layers.len(), &device)?;
        for (index, layer) in layers.iter_mut().enumerate() {
            weights.put_floats(index, layer);
        }
        let encoding = StackEncoding::Dense(dtype);
        Some(Self { encoding, shape, count, parts, weights, absmax: None, absmax_codes: None })
    }

    /// Choices that there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Each row of `x` `[rows, in]` with the weights that int32 `chosen` `[rows, choices]` has for it: `[rows * choices, parts * out]` in
    /// the dtype of `x`. A choice that does not exist is taken for the last.
    ///
    /// # Panics
    /// If sizes or devices do not match.
    pub fn products(&self, x: Tensor<2>, chosen: &Tensor<2, Int>) -> Tensor<2> {
        let [rows, choices] = chosen.dims();
        assert_eq!(x.dims(), [rows, self.shape[1]], "activations for choices {:?}", chosen.dims());
        let factors = x.clone();
        self.multiply(x, chosen, factors, self.plan(choices, false))
    }

    /// For each row the sum of its choices' products with their activations of `x` `[rows * choices, in]`, weighted with float32 `factors`
    /// `[rows, choices]`: `[rows, out]` in the dtype of `x`. A choice that does not exist is taken for the last.
    ///
    /// # Panics
    /// If sizes or devices do not match, or if a choice stands for several weights.
    pub fn weighted_sum(&self, x: Tensor<2>, chosen: &Tensor<2, Int>, factors: Tensor<2>) -> Tensor<2> {
        let [rows, choices] = chosen.dims();
        assert_eq!(x.dims(), [rows * choices, self.shape[1]], "activations for choices {:?}", chosen.dims());
        assert!(factors.dims() == chosen.dims() && factors.dtype() == DType::F32 && self.parts == 1);
        self.multiply(x, chosen, factors, self.plan(choices, true))
    }

    fn plan(&self, choices: usize, sums: bool) -> StackPlan {
        let distance = |memory: &Option<Memory>| memory.as_ref().map_or(0, |memory| memory.distance);
        StackPlan {
            encoding: self.encoding,
            shape: self.shape,
            count: self.count,
            parts: self.parts,
            choices,
            sums,
            distances: [self.weights.distance, distance(&self.absmax), distance(&self.absmax_codes)],
        }
    }

    fn multiply(&self, x: Tensor<2>, chosen: &Tensor<2, Int>, factors: Tensor<2>, plan: StackPlan) -> Tensor<2> {
        let [rows, choices] = chosen.dims();
        assert!(rows > 0 && choices > 0 && rows * choices <= MOST, "{rows} rows of {choices} choices");
        assert!(chosen.dtype() == DType::I32 && matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16));
        let memory = |memory: &Option<Memory>| memory.as_ref().unwrap_or(&self.weights).bytes.clone().into_dispatch();
        Tensor::from_dispatch(<Dispatch as StackOps>::stack_product(
            x.into_dispatch(),
            self.weights.bytes.clone().into_dispatch(),
            memory(&self.absmax),
            memory(&self.absmax_codes),
            chosen.clone().into_dispatch(),
            factors.into_dispatch(),
            plan,
        ))
    }
}

/// Whole choices of `parts` weights, few enough for a launch.
fn choices(weights: usize, parts: usize, out_features: usize) -> Option<usize> {
    let are_whole = parts > 0 && weights.is_multiple_of(parts) && out_features > 0;
    (are_whole && out_features.checked_mul(parts)? <= MOST).then_some(weights / parts)
}

/// The device, if it has kernels and does not track gradients.
fn stacking_device(device: &Device) -> Option<Device> {
    matches!(device.as_dispatch(), DispatchDevice::Cube(_)).then(|| device.clone())
}

/// Parts of equal size, each where the device reads vectors and where a tensor may begin.
#[derive(Clone, Debug)]
struct Memory {
    bytes: Tensor<1, Int>,
    /// Bytes from a part to the next.
    distance: usize,
}

impl Memory {
    /// `None` for parts that are not whole words, and for more words than 32 bits count.
    fn new(bytes: usize, parts: usize, device: &Device) -> Option<Self> {
        let DispatchDevice::Cube(cube_device) = device.as_dispatch() else { return None };
        let distance = bytes.checked_next_multiple_of(cube::alignment(cube_device))?;
        let total = distance.checked_mul(parts)?;
        if bytes == 0 || !bytes.is_multiple_of(4) || u32::try_from(total / 4).is_err() {
            return None;
        }
        let like = Tensor::<1>::empty([1], (device, DType::F32)).into_dispatch();
        let bytes = Tensor::from_dispatch(<Dispatch as StackOps>::stack_room(like, total));
        Some(Self { bytes, distance })
    }

    fn put_ints(&mut self, index: usize, part: &mut Param<Tensor<1, Int>>) {
        let (id, value, at) = (part.id, part.val(), index * self.distance);
        let bytes = value.dims()[0];
        self.fill(|memory| <Dispatch as StackOps>::stack_ints(memory, value.into_dispatch(), at));
        let there = <Dispatch as StackOps>::part_of_ints(self.bytes.clone().into_dispatch(), at, bytes);
        *part = Param::initialized(id, Tensor::from_dispatch(there));
    }

    fn put_floats<const D: usize>(&mut self, index: usize, part: &mut Param<Tensor<D>>) {
        let (id, value, at) = (part.id, part.val(), index * self.distance);
        let (dims, dtype) = (value.dims(), value.dtype());
        let shape = [dims[..D - 1].iter().product(), dims[D - 1]];
        self.fill(|memory| <Dispatch as StackOps>::stack_floats(memory, value.into_dispatch(), at));
        let there = <Dispatch as StackOps>::part_of_floats(self.bytes.clone().into_dispatch(), at, shape, dtype);
        let there = Tensor::<2>::from_dispatch(there).reshape(dims);
        *part = Param::initialized(id, there).set_require_grad(false);
    }

    fn fill(&mut self, fill: impl FnOnce(DispatchTensor) -> DispatchTensor) {
        self.bytes = Tensor::from_dispatch(fill(self.bytes.clone().into_dispatch()));
    }
}
