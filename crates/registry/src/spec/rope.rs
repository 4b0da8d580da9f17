//! Rotary position embeddings.

use serde::Serialize;

/// Rotary position embedding of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// Width of a head that rotates (even, at most `head_dim`): the first `rotary_dim` elements.
    pub rotary_dim: usize,
    /// Which elements form a pair.
    pub pairing: RopePairing,
    /// How frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RopePairing {
    /// `(x[i], x[i + rotary_dim / 2])` (Llama in transformers, "rotate half").
    HalfSplit,
    /// `(x[i + rotary_dim / 2], x[i])`: what [`HalfSplit`](Self::HalfSplit) does, in the other direction (nanochat).
    HalfSplitSwapped,
    /// `(x[2i], x[2i + 1])` (Cohere, GLM, "rotate every two").
    Interleaved,
}

/// The rope types of transformers (`modeling_rope_utils.py`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RopeScaling {
    /// `theta^(-2i / dim)` as it is.
    Default,
    /// Frequencies divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// NTK scaling by the current length.
    Dynamic {
        /// Growth factor.
        factor: f64,
        /// Length up to which nothing changes.
        original_max_position_embeddings: usize,
    },
    /// YaRN.
    Yarn(YarnRope),
    /// LongRoPE: per-frequency divisors chosen by the current length.
    LongRope(LongRope),
    /// Llama 3.1's smooth interpolation by wavelength.
    Llama3 {
        /// Divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` stay.
        high_freq_factor: f64,
        /// Context length of the pre-training.
        original_max_position_embeddings: usize,
    },
    /// Frequencies over the whole head of which only the first part is non-zero (Gemma 4).
    Proportional {
        /// Divisor.
        factor: f64,
        /// Width of the whole head, in the exponent's denominator.
        head_dim: usize,
    },
}

/// Parameters of YaRN, with the attention factor already concluded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct YarnRope {
    /// Divisor of interpolated frequencies.
    pub factor: f64,
    /// Rotations at which interpolation ends (32).
    pub beta_fast: f64,
    /// Rotations at which interpolation is whole (1).
    pub beta_slow: f64,
    /// Context length of the pre-training.
    pub original_max_position_embeddings: usize,
    /// Factor on cosines and sines.
    pub attention_factor: f64,
    /// Whether the ramp's ends are rounded outwards.
    pub truncate: bool,
}

/// Parameters of LongRoPE, with the attention factor already concluded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LongRope {
    /// Divisors up to the original length; `rotary_dim / 2` of them.
    pub short_factor: Vec<f64>,
    /// Divisors beyond it.
    pub long_factor: Vec<f64>,
    /// Context length of the pre-training.
    pub original_max_position_embeddings: usize,
    /// Factor on cosines and sines.
    pub attention_factor: f64,
    /// The factor beyond the original length, if another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_attention_factor: Option<f64>,
    /// Length beyond which a growing sequence is computed again from its start, with the angles of its new length. Without it,
    /// keys that were computed before keep the angles that they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_valid_to: Option<usize>,
}
