//! Norms: their arithmetic and their parameters.

use super::{Declare, ParameterRole};
use serde::Serialize;

/// One norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NormSpec {
    /// The arithmetic.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f64,
}

/// The arithmetic of a norm. The RMS kinds agree in float32 (but for the offset) and differ in where half-precision
/// checkpoints round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormKind {
    /// `weight * cast(x * rsqrt(mean(x^2) + eps))` (Llama).
    Rms,
    /// `cast(weight * x * rsqrt(..))`, the product in float32 (OLMo 2).
    RmsProductInFloat32,
    /// `cast((1 + weight) * x * rsqrt(..))`, the product in float32 (Gemma).
    RmsOneOffset,
    /// `cast(x * rsqrt(..))`, without parameters (nanochat, Llama 4's queries and keys).
    RmsWithoutWeight,
    /// LayerNorm with weight, and with bias if set.
    LayerNorm {
        /// Whether a bias is added.
        bias: bool,
    },
    /// LayerNorm with weight alone, computed in float32 (Cohere).
    LayerNormInFloat32,
    /// LayerNorm with weight and bias that scales by `1 + weight`, a sum which half precision rounds (Nemotron).
    LayerNormOneOffset,
    /// LayerNorm without parameters (OLMo).
    LayerNormWithoutParameters,
}

impl NormKind {
    /// Whether the norm has a weight.
    pub fn has_weight(self) -> bool {
        !matches!(self, Self::RmsWithoutWeight | Self::LayerNormWithoutParameters)
    }

    /// Whether the norm has a bias.
    pub fn has_bias(self) -> bool {
        matches!(self, Self::LayerNorm { bias: true } | Self::LayerNormOneOffset)
    }

    /// Whether the factors are `1 + weight`, so that the norm is neutral at zero.
    pub fn adds_one(self) -> bool {
        matches!(self, Self::RmsOneOffset | Self::LayerNormOneOffset)
    }

    /// Whether the factors are rounded to the activations' dtype before the product.
    pub fn rounds_factors(self) -> bool {
        matches!(self, Self::Rms | Self::LayerNormOneOffset)
    }
}

impl NormSpec {
    /// Declares the parameters `[..shape]` of the norm called `name`.
    pub fn declare(&self, name: &str, shape: &[usize], to: &mut Declare<'_>) {
        to.inside(name, |to| {
            if self.kind.has_weight() {
                to.parameter("weight", shape, ParameterRole::Norm);
            }
            if self.kind.has_bias() {
                to.parameter("bias", shape, ParameterRole::Norm);
            }
        });
    }
}
