//! Rope parameters of a config.

use std::collections::BTreeMap;

use serde_json::Value;

/// The rope parameters of a config class if a file has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeDefaults {
    /// Base of the frequencies.
    pub theta: f64,
    /// Fraction of a head that is rotated.
    pub partial_rotary_factor: f64,
}

impl Default for RopeDefaults {
    fn default() -> Self {
        Self { theta: 10_000.0, partial_rotary_factor: 1.0 }
    }
}

/// How a family reads rope parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeOptions {
    /// The defaults if a file has no value.
    pub defaults: RopeDefaults,
    /// Rope types that it treats as another one (Phi-3: `yarn` as `longrope`).
    pub type_aliases: &'static [(&'static str, &'static str)],
    /// Additional keys in the rope object, returned in [`RopeParameters::extra`].
    pub extra_keys: &'static [&'static str],
    /// Top-level key of the base in files of version 4 (`rope_theta`).
    pub theta_key: &'static str,
    /// Top-level key of the rotated fraction of a head in files of version 4 (`partial_rotary_factor`).
    pub partial_rotary_factor_key: &'static str,
}

impl Default for RopeOptions {
    fn default() -> Self {
        Self {
            defaults: RopeDefaults::default(),
            type_aliases: &[],
            extra_keys: &[],
            theta_key: "rope_theta",
            partial_rotary_factor_key: "partial_rotary_factor",
        }
    }
}

impl From<RopeDefaults> for RopeOptions {
    fn from(defaults: RopeDefaults) -> Self {
        Self { defaults, ..Self::default() }
    }
}

/// One layer type of a family that always has separate rope parameters for each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeLayer {
    /// Name of the layer type, such as `full_attention`.
    pub layer_type: &'static str,
    /// The defaults if a file has no value.
    pub defaults: RopeDefaults,
    /// Top-level key with the theta of this layer type, in files of version 4.
    pub theta_key: Option<&'static str>,
    /// Whether a `rope_scaling` of version 4 applies to this layer type.
    pub takes_rope_scaling: bool,
}

/// Rope parameters of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelRope {
    /// The same for all layers.
    Uniform(RopeParameters),
    /// By layer type; `None` if the file has `null` (layers without rope).
    PerLayerType(BTreeMap<String, Option<RopeParameters>>),
}

/// One set of rope parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeParameters {
    /// How frequencies are scaled for long contexts.
    pub rope_type: RopeType,
    /// Base of the frequencies; above 0.
    pub theta: f64,
    /// Fraction of a head that is rotated, from 0 to 1.
    pub partial_rotary_factor: f64,
    /// Values of the [`RopeOptions::extra_keys`] that are given and not null.
    pub extra: BTreeMap<String, Value>,
}

/// The rope types of transformers 5.23 for text models, with what each needs. Factors are above 0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeType {
    /// Unscaled frequencies.
    Default,
    /// Frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// NTK scaling by the current length.
    Dynamic {
        /// Growth factor.
        factor: f64,
        /// Length up to which nothing changes (`max_position_embeddings`).
        original_max_position_embeddings: usize,
    },
    /// YaRN.
    Yarn {
        /// Divisor of interpolated frequencies; if the file has null, the ratio of `max_position_embeddings` to the
        /// original length.
        factor: f64,
        /// Factor on cosines and sines, if given.
        attention_factor: Option<f64>,
        /// Rotations at which interpolation ends (32 if not given).
        beta_fast: f64,
        /// Rotations at which interpolation is complete (1 if not given).
        beta_slow: f64,
        /// Numerator's scale of the attention factor, if given.
        mscale: Option<f64>,
        /// Denominator's scale of the attention factor, if given.
        mscale_all_dim: Option<f64>,
        /// Whether the ramp's ends are rounded outwards (yes if not given).
        truncate: bool,
        /// Context length of the pre-training.
        original_max_position_embeddings: usize,
    },
    /// LongRoPE: divisors chosen by the current length.
    LongRope {
        /// Divisors up to the original length, one for each pair that rotates.
        short_factor: Vec<f64>,
        /// Divisors beyond it.
        long_factor: Vec<f64>,
        /// Growth of the context; where not given, the ratio of `max_position_embeddings` to the original length.
        factor: f64,
        /// Factor on cosines and sines, if given.
        attention_factor: Option<f64>,
        /// Context length of the pre-training.
        original_max_position_embeddings: usize,
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
    /// Frequencies over the whole head, of which only the first part is not zero.
    Proportional {
        /// Divisor (1 if not given).
        factor: f64,
    },
}

impl RopeType {
    /// Name in config files.
    pub fn name(&self) -> &'static str {
        match self {
            RopeType::Default => "default",
            RopeType::Linear { .. } => "linear",
            RopeType::Dynamic { .. } => "dynamic",
            RopeType::Yarn { .. } => "yarn",
            RopeType::LongRope { .. } => "longrope",
            RopeType::Llama3 { .. } => "llama3",
            RopeType::Proportional { .. } => "proportional",
        }
    }

    /// Factor on cosines and sines: the given one, or the result of `_compute_yarn_parameters` and `_compute_longrope_parameters` of
    /// transformers 5.23; 1 for the other types.
    pub fn attention_factor(&self) -> f64 {
        match *self {
            RopeType::Yarn { attention_factor: Some(given), .. }
            | RopeType::LongRope { attention_factor: Some(given), .. } => given,
            RopeType::Yarn { factor, mscale, mscale_all_dim, .. } => {
                let scale = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
                // Falsy in Python: a scale of 0 counts as not given.
                match (mscale.filter(|scale| *scale != 0.0), mscale_all_dim.filter(|scale| *scale != 0.0)) {
                    (Some(mscale), Some(mscale_all_dim)) => scale(mscale) / scale(mscale_all_dim),
                    _ => scale(1.0),
                }
            }
            RopeType::LongRope { factor, original_max_position_embeddings, .. } if factor > 1.0 => {
                (1.0 + factor.ln() / (original_max_position_embeddings as f64).ln()).sqrt()
            }
            _ => 1.0,
        }
    }
}
