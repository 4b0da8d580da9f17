//! Rotary position embeddings, with the frequencies of transformers 5.23 (`modeling_rope_utils.py`).
//!
//! Frequencies are computed in float32 wherever transformers does, because at high positions a difference in the last
//! bit of a frequency changes the angle.

mod frequencies;
mod rotate;
mod tables;

use crate::AttentionError;
use burn::tensor::Device;
pub use tables::RopeTables;

/// Which elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// `(x[i], x[i + rotary_dim / 2])` (Llama in transformers, "rotate half").
    HalfSplit,
    /// `(x[i + rotary_dim / 2], x[i])`: what [`HalfSplit`](Self::HalfSplit) does, in the other direction (nanochat).
    HalfSplitSwapped,
    /// `(x[2i], x[2i + 1])` (Cohere, GLM, "rotate every two").
    Interleaved,
}

/// How frequencies are scaled for long contexts: the rope types of transformers.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Unscaled: `theta^(-2i / rotary_dim)`.
    Default,
    /// Frequencies divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// NTK scaling: the base grows with the current length.
    Dynamic {
        /// Growth factor.
        factor: f64,
        /// Length up to which nothing changes.
        original_max_position_embeddings: usize,
    },
    /// YaRN.
    Yarn {
        /// Divisor of interpolated frequencies.
        factor: f64,
        /// Rotations at which interpolation ends (32).
        beta_fast: f64,
        /// Rotations at which interpolation is complete (1).
        beta_slow: f64,
        /// Context length of the pre-training.
        original_max_position_embeddings: usize,
        /// Factor on cosines and sines.
        attention_factor: f64,
        /// Whether the ramp's ends are rounded outwards.
        truncate: bool,
    },
    /// LongRoPE: divisors for each frequency, chosen by the current length.
    LongRope {
        /// Divisors up to the original length; `rotary_dim / 2` of them.
        short_factor: Vec<f64>,
        /// Divisors beyond it.
        long_factor: Vec<f64>,
        /// Context length of the pre-training.
        original_max_position_embeddings: usize,
        /// Factor on cosines and sines.
        attention_factor: f64,
        /// The factor beyond the original length, if another.
        long_attention_factor: Option<f64>,
    },
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
    /// Frequencies over the whole head of which only the first `rotary_dim / 2` are not zero (Gemma 4). Pairs are
    /// formed over the whole head.
    Proportional {
        /// Divisor.
        factor: f64,
        /// Width of the whole head, in the exponent's denominator.
        head_dim: usize,
    },
}

/// Parameters of a rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Width of one head.
    pub head_dim: usize,
    /// Number of leading elements of a head that are rotated: even, at most `head_dim`.
    pub rotary_dim: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// Which elements form a pair.
    pub pairing: RopePairing,
    /// How frequencies are scaled for long contexts.
    pub scaling: RopeScaling,
}

/// A rotary embedding.
///
/// ```
/// use automodel_attention::{Rope, RopeConfig, RopePairing, RopeScaling};
/// use burn::tensor::{Device, Tensor};
///
/// let rope = Rope::new(RopeConfig {
///     head_dim: 8,
///     rotary_dim: 4,
///     theta: 10_000.0,
///     pairing: RopePairing::HalfSplit,
///     scaling: RopeScaling::Default,
/// })?;
/// assert_eq!(rope.inverse_frequencies(5), [1.0, 0.01]);
///
/// // Positions 3 and 4 of one sequence, shared by all rows of the batch.
/// let device = Device::flex();
/// let tables = rope.tables(&[vec![3, 4]], 5, &device)?;
/// let rotated = tables.apply(Tensor::ones([1, 2, 2, 8], &device));
/// assert_eq!(rotated.dims(), [1, 2, 2, 8]);
/// # Ok::<(), automodel_attention::AttentionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rope {
    config: RopeConfig,
    /// Frequencies of short sequences.
    short: Vec<f32>,
    /// LongRoPE's frequencies of long sequences.
    long: Option<Vec<f32>>,
}

impl Rope {
    /// Checks the configuration and computes the frequencies that do not depend on a length.
    ///
    /// # Errors
    /// A `rotary_dim` that is odd, 0 or above `head_dim`; a number that must be positive and finite and is not; lists of
    /// factors of the wrong length.
    pub fn new(config: RopeConfig) -> Result<Self, AttentionError> {
        frequencies::validate(&config)?;
        let short = frequencies::compute(&config, 0);
        let long = match config.scaling {
            RopeScaling::LongRope { .. } => Some(frequencies::compute(&config, usize::MAX)),
            _ => None,
        };
        Ok(Self { config, short, long })
    }

    /// The parameters.
    pub fn config(&self) -> &RopeConfig {
        &self.config
    }

    /// Inverse frequencies, in radians per position, for a sequence of `total_length` positions so far; `rotary_dim / 2` of
    /// them.
    ///
    /// Only dynamic and LongRoPE depend on the length. As in transformers the length is the largest position of the
    /// batch plus 1. Unlike in transformers, an earlier, longer call has no effect.
    pub fn inverse_frequencies(&self, total_length: usize) -> Vec<f32> {
        match (&self.config.scaling, &self.long) {
            (RopeScaling::Dynamic { original_max_position_embeddings: original, .. }, _)
                if total_length > *original =>
            {
                frequencies::compute(&self.config, total_length)
            }
            (RopeScaling::LongRope { original_max_position_embeddings: original, .. }, Some(long))
                if total_length > *original =>
            {
                long.clone()
            }
            _ => self.short.clone(),
        }
    }

    /// The factor on cosines and sines for a sequence of `total_length` positions so far: `attention_scaling` of transformers.
    pub fn attention_scaling(&self, total_length: usize) -> f64 {
        match self.config.scaling {
            RopeScaling::LongRope {
                original_max_position_embeddings: original,
                long_attention_factor: Some(factor),
                ..
            } if total_length > original => factor,
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }

    /// Cosines and sines for one forward pass, to be shared by all layers with this embedding and by queries and keys.
    ///
    /// `positions` holds one list for each row of the batch, or a single one for all rows
    /// ([`Positions::rotary`](crate::Positions::rotary) makes them); `total_length` is as in
    /// [`inverse_frequencies`](Self::inverse_frequencies).
    ///
    /// # Errors
    /// [`RopePositions`](AttentionError::RopePositions) for missing, empty or uneven lists.
    pub fn tables(
        &self,
        positions: &[Vec<usize>],
        total_length: usize,
        device: &Device,
    ) -> Result<RopeTables, AttentionError> {
        let length = positions.first().map_or(0, Vec::len);
        let uneven = positions.iter().position(|row| row.len() != length || row.is_empty());
        if let Some(row) = uneven.or(positions.is_empty().then_some(0)) {
            let found = positions.get(row).map_or(0, Vec::len);
            return Err(AttentionError::RopePositions { row, expected: length.max(1), found });
        }
        let frequencies = self.inverse_frequencies(total_length);
        let scaling = self.attention_scaling(total_length);
        Ok(RopeTables::new(&frequencies, positions, scaling, self.config.pairing, device))
    }
}
