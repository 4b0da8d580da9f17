//! RMS and layer norms over the last axis.

use crate::kernels::{self, NormPass};
use crate::parameters;
use automodel_registry::spec::{NormKind, NormSpec};
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};

#[cfg(feature = "cube")]
mod gpu;

/// A norm over the last axis, or over the last `W` axes of its weight when heads have weights of their own.
#[derive(Module, Debug)]
pub struct Norm<const W: usize = 1> {
    /// Weight; its last dimension is the normalised one.
    pub weight: Option<Param<Tensor<W>>>,
    /// Bias, of the weight's shape.
    pub bias: Option<Param<Tensor<W>>>,
    #[module(skip)]
    spec: NormSpec,
}

impl<const W: usize> Norm<W> {
    /// A norm without values whose parameters have shape `shape`.
    pub fn new(spec: NormSpec, shape: [usize; W], device: &Device) -> Self {
        Self {
            weight: spec.kind.has_weight().then(|| parameters::empty(shape, device)),
            bias: spec.kind.has_bias().then(|| parameters::empty(shape, device)),
            spec,
        }
    }

    /// A norm of these parameters.
    pub(crate) fn of(spec: NormSpec, weight: Option<Param<Tensor<W>>>, bias: Option<Param<Tensor<W>>>) -> Self {
        Self { weight, bias, spec }
    }

    /// Normalises the last axis of `x`; statistics in float32, result in `x`'s dtype. The weight's axes are the last axes
    /// of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "cube")]
        let x = {
            let value = |parameter: &Option<Param<Tensor<W>>>| parameter.as_ref().map(Param::val);
            match gpu::normalized(&self.spec, x, value(&self.weight), value(&self.bias)) {
                Ok(y) => return y,
                Err(x) => x,
            }
        };
        let pass =
            NormPass { eps: self.spec.eps, centred: is_centred(self.spec.kind), one_offset: self.spec.kind.adds_one() };
        let in_float32 = |parameter: &Option<Param<Tensor<W>>>| parameter.as_ref().map(|p| to_float32(p.val()));
        let (weight, bias) = (in_float32(&self.weight), in_float32(&self.bias));
        kernels::normalized(pass, x, weight.as_ref(), bias.as_ref()).unwrap_or_else(|x| self.forward_plainly(x))
    }

    /// [`forward`](Self::forward) of a norm that may be absent.
    pub(crate) fn apply<const D: usize>(norm: Option<&Self>, x: Tensor<D>) -> Tensor<D> {
        match norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// [`forward`](Self::forward) in tensor operations: any device and dtype, differentiable.
    fn forward_plainly<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = to_float32(x);
        let eps = self.spec.eps;
        let normalized = if is_centred(self.spec.kind) {
            let centered = x.clone() - x.mean_dim(D - 1);
            let variance = centered.clone().square().mean_dim(D - 1);
            centered * (variance + eps).sqrt().recip()
        } else {
            let mean_square = x.clone().square().mean_dim(D - 1);
            x * (mean_square + eps).sqrt().recip()
        };
        // Llama's norm rounds to the activations' dtype before the product with the weight, all others after it.
        let normalized = if self.spec.kind == NormKind::Rms { normalized.cast(dtype) } else { normalized };
        let scaled = match &self.weight {
            Some(weight) => {
                let rounded = if self.spec.kind.rounds_factors() { dtype } else { DType::F32 };
                let weight = weight.val().cast(rounded);
                let weight = if self.spec.kind.adds_one() { weight + 1.0 } else { weight };
                let weight = if rounded == normalized.dtype() { weight } else { weight.cast(normalized.dtype()) };
                normalized * broadcast(weight)
            }
            None => normalized,
        };
        let shifted = match &self.bias {
            Some(bias) => {
                let bias = bias.val().cast(scaled.dtype());
                scaled + broadcast(bias)
            }
            None => scaled,
        };
        if shifted.dtype() == dtype { shifted } else { shifted.cast(dtype) }
    }
}

/// Whether the mean is subtracted.
fn is_centred(kind: NormKind) -> bool {
    match kind {
        NormKind::Rms | NormKind::RmsProductInFloat32 | NormKind::RmsOneOffset | NormKind::RmsWithoutWeight => false,
        NormKind::LayerNorm { .. }
        | NormKind::LayerNormInFloat32
        | NormKind::LayerNormOneOffset
        | NormKind::LayerNormWithoutParameters => true,
    }
}

fn to_float32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) }
}

fn broadcast<const W: usize, const D: usize>(weight: Tensor<W>) -> Tensor<D> {
    let mut shape = [1; D];
    shape[D - W..].copy_from_slice(&weight.dims());
    weight.reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::ParamId;
    use burn::tensor::Distribution;

    const KINDS: [NormKind; 9] = [
        NormKind::Rms,
        NormKind::RmsProductInFloat32,
        NormKind::RmsOneOffset,
        NormKind::RmsWithoutWeight,
        NormKind::LayerNorm { bias: false },
        NormKind::LayerNorm { bias: true },
        NormKind::LayerNormInFloat32,
        NormKind::LayerNormOneOffset,
        NormKind::LayerNormWithoutParameters,
    ];

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Uniform(-2.0, 3.0), &Device::flex())
    }

    fn norm<const W: usize>(kind: NormKind, shape: [usize; W], dtype: DType) -> Norm<W> {
        let mut norm = Norm::new(NormSpec { kind, eps: 1e-3 }, shape, &Device::flex());
        let value = || Param::initialized(ParamId::new(), random(shape).cast(dtype));
        norm.weight = norm.weight.map(|_| value());
        norm.bias = norm.bias.map(|_| value());
        norm
    }

    fn check<const W: usize, const D: usize>(norm: &Norm<W>, x: Tensor<D>) {
        let expected: Vec<f32> = norm.forward_plainly(x.clone()).into_data().try_to_vec().expect("float32");
        // Once in a copy, once in the tensor's own memory.
        let copied = norm.forward(x.clone()).into_data();
        let found = norm.forward(x.clone().mul_scalar(1.0)).into_data();
        assert_eq!(copied, found);
        let found: Vec<f32> = found.try_to_vec().expect("float32");
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let kind = norm.spec.kind;
            assert!((found - expected).abs() <= 2e-6 * (1.0 + expected.abs()), "{kind:?}: {found}, not {expected}");
        }
        assert_eq!(norm.forward_plainly(x.clone()).into_data(), expected_data(&expected, x.dims()), "x is as before");
    }

    fn expected_data<const D: usize>(values: &[f32], shape: [usize; D]) -> burn::tensor::TensorData {
        burn::tensor::TensorData::new(values.to_vec(), shape)
    }

    #[test]
    fn one_pass_equals_tensor_operations() {
        for kind in KINDS {
            for dtype in [DType::F32, DType::BF16] {
                for width in [1, 7, 64, 333] {
                    let norm = norm(kind, [width], dtype);
                    check(&norm, random([1, 1, width]));
                    check(&norm, random([2, 5, width]));
                    check(&norm, random([5, 2, width]).swap_dims(0, 1));
                    check(&norm, random([3, 9, width + 2]).slice([1..3, 2..9, 1..width + 1]));
                    check(&norm, random([width, 4]).swap_dims(0, 1));
                }
                check(&norm(kind, [1024], dtype), random([131, 1024]));
                check(&norm(kind, [6, 10], dtype), random([2, 3, 6, 10]));
                check(&norm(kind, [6, 10], dtype), random([2, 6, 3, 10]).swap_dims(1, 2));
            }
        }
    }

    #[test]
    fn half_precision_takes_tensor_operations() {
        for kind in KINDS {
            let norm = norm(kind, [48], DType::BF16);
            let x = random([3, 48]).cast(DType::BF16);
            assert_eq!(norm.forward(x.clone()).into_data(), norm.forward_plainly(x).into_data());
        }
    }

    #[test]
    fn the_sum_of_one_and_the_weight_is_rounded_in_half_precision() {
        let with = |weight: f32, dtype| {
            let mut norm = norm(NormKind::LayerNormOneOffset, [48], dtype);
            let filled = |value: f32| {
                Some(Param::initialized(ParamId::new(), Tensor::full([48], value, (&Device::flex(), dtype))))
            };
            (norm.weight, norm.bias) = (filled(weight), filled(0.0));
            let x = Tensor::<2>::from_data([std::array::from_fn::<f32, 48, _>(|i| (i * i) as f32)], &Device::flex());
            norm.forward(x.cast(dtype)).into_data()
        };
        // The numbers of bfloat16 next to 1 are 1/256 below and 1/128 above it: a quarter of that is lost, in float32 it is not.
        assert_eq!(with(1.0 / 512.0, DType::BF16), with(0.0, DType::BF16));
        assert_ne!(with(1.0 / 512.0, DType::F32), with(0.0, DType::F32));
    }

    #[test]
    fn gradients_pass_through() {
        let norm = norm(NormKind::LayerNormWithoutParameters, [4], DType::F32);
        let x = random([2, 4]).autodiff().require_grad();
        let gradients = norm.forward(x.clone()).square().sum().backward();
        assert!(x.grad(&gradients).is_some());
    }
}
