//! Norms: their arithmetic and their place in a layer.

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
    /// LayerNorm with weight, and with bias if set.
    LayerNorm {
        /// Whether a bias is added.
        bias: bool,
    },
    /// LayerNorm with weight alone, computed in float32 (Cohere).
    LayerNormInFloat32,
    /// LayerNorm without parameters (OLMo).
    LayerNormWithoutParameters,
}

impl NormKind {
    /// Whether the norm has a weight.
    pub fn has_weight(self) -> bool {
        !matches!(self, Self::LayerNormWithoutParameters)
    }

    /// Whether the norm has a bias.
    pub fn has_bias(self) -> bool {
        matches!(self, Self::LayerNorm { bias: true })
    }
}

/// Where the norms of a layer stand, with the names of their parameters. `mixer` and `mlp` are the two branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormPlacement {
    /// `h = x + mixer(input_layernorm(x)); h + mlp(post_attention_layernorm(h))` (Llama).
    Pre,
    /// `h = x + post_attention_layernorm(mixer(x)); h + post_feedforward_layernorm(mlp(h))` (OLMo 2).
    Post,
    /// Norms before and after each branch: `input_layernorm`, `post_attention_layernorm`,
    /// `pre_feedforward_layernorm`, `post_feedforward_layernorm` (Gemma 2).
    Sandwich,
    /// `n = input_layernorm(x); x + mixer(n) + mlp(n)` (Phi, Cohere).
    ParallelShared,
    /// `x + mixer(input_layernorm(x)) + mlp(post_attention_layernorm(x))` (GPT-NeoX).
    ParallelSplit,
}

impl NormPlacement {
    /// The layer norms that exist under this placement, by parameter name.
    pub fn norms(self) -> &'static [&'static str] {
        match self {
            Self::Pre | Self::ParallelSplit => &["input_layernorm", "post_attention_layernorm"],
            Self::Post => &["post_attention_layernorm", "post_feedforward_layernorm"],
            Self::Sandwich => &[
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
            Self::ParallelShared => &["input_layernorm"],
        }
    }
}
