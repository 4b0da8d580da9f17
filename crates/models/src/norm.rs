//! RMS and layer norms over the last axis.

use crate::parameters;
use automodel_registry::spec::{NormKind, NormSpec};
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};

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

    /// Normalises the last axis of `x`; statistics in float32, result in `x`'s dtype. The weight's axes are the last axes
    /// of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = to_float32(x);
        let eps = self.spec.eps;
        let normalized = match self.spec.kind {
            NormKind::Rms | NormKind::RmsProductInFloat32 | NormKind::RmsOneOffset => {
                let mean_square = x.clone().square().mean_dim(D - 1);
                x * (mean_square + eps).sqrt().recip()
            }
            NormKind::LayerNorm { .. } | NormKind::LayerNormInFloat32 | NormKind::LayerNormWithoutParameters => {
                let centered = x.clone() - x.mean_dim(D - 1);
                let variance = centered.clone().square().mean_dim(D - 1);
                centered * (variance + eps).sqrt().recip()
            }
        };
        // Llama's norm rounds to the activations' dtype before the product with the weight, all others after it.
        let normalized = if self.spec.kind == NormKind::Rms { normalized.cast(dtype) } else { normalized };
        let scaled = match &self.weight {
            Some(weight) => {
                let weight = weight.val().cast(normalized.dtype());
                let weight = if self.spec.kind == NormKind::RmsOneOffset { weight + 1.0 } else { weight };
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

fn to_float32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) }
}

fn broadcast<const W: usize, const D: usize>(weight: Tensor<W>) -> Tensor<D> {
    let mut shape = [1; D];
    shape[D - W..].copy_from_slice(&weight.dims());
    weight.reshape(shape)
}
