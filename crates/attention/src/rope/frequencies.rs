//! Inverse frequencies of each rope type, in the order of operations and the precision of transformers 5.23.

use super::{RopeConfig, RopeScaling};
use crate::AttentionError;
use std::f64::consts::PI;

/// Checks everything that [`compute`] relies on.
pub(super) fn validate(config: &RopeConfig) -> Result<(), AttentionError> {
    let RopeConfig { head_dim, rotary_dim, theta, .. } = *config;
    if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
        return Err(invalid("rotary_dim", rotary_dim, "an even number from 2 to head_dim"));
    }
    positive("theta", theta)?;
    match &config.scaling {
        RopeScaling::Default => Ok(()),
        RopeScaling::Linear { factor } => positive("factor", *factor),
        RopeScaling::Dynamic { factor, original_max_position_embeddings } => {
            if rotary_dim == 2 {
                return Err(invalid("rotary_dim", rotary_dim, "at least 4 with dynamic scaling"));
            }
            // Below 1 the base could become negative, and its power NaN.
            if !(factor.is_finite() && *factor >= 1.0) {
                return Err(invalid("factor", *factor, "a finite number, at least 1"));
            }
            original_length(*original_max_position_embeddings)
        }
        RopeScaling::Yarn {
            factor, beta_fast, beta_slow, original_max_position_embeddings, attention_factor, ..
        } => {
            if theta == 1.0 {
                return Err(invalid("theta", theta, "a number other than 1 with YaRN"));
            }
            positive("factor", *factor)?;
            positive("beta_fast", *beta_fast)?;
            positive("beta_slow", *beta_slow)?;
            positive("attention_factor", *attention_factor)?;
            original_length(*original_max_position_embeddings)
        }
        RopeScaling::LongRope {
            short_factor,
            long_factor,
            original_max_position_embeddings,
            attention_factor,
            long_attention_factor,
        } => {
            for (name, list) in [("short_factor", short_factor), ("long_factor", long_factor)] {
                if list.len() != rotary_dim / 2 {
                    return Err(AttentionError::RopeFactors { name, expected: rotary_dim / 2, found: list.len() });
                }
                list.iter().try_for_each(|&factor| positive(name, factor))?;
            }
            positive("attention_factor", *attention_factor)?;
            positive("long_attention_factor", long_attention_factor.unwrap_or(1.0))?;
            original_length(*original_max_position_embeddings)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            positive("factor", *factor)?;
            positive("low_freq_factor", *low_freq_factor)?;
            positive("high_freq_factor", *high_freq_factor)?;
            // If the two are equal or in the wrong order, no wavelength lies between them: transformers warns and computes.
            original_length(*original_max_position_embeddings)
        }
        RopeScaling::Proportional { factor, head_dim: whole } => {
            if *whole != head_dim || !whole.is_multiple_of(2) {
                return Err(invalid("head_dim of proportional scaling", *whole, "the even head_dim of the heads"));
            }
            positive("factor", *factor)
        }
    }
}

fn positive(name: &'static str, value: f64) -> Result<(), AttentionError> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(invalid(name, value, "a positive, finite number")) }
}

fn original_length(value: usize) -> Result<(), AttentionError> {
    if value > 0 { Ok(()) } else { Err(invalid("original_max_position_embeddings", value, "at least 1")) }
}

fn invalid(name: &'static str, value: impl ToString, expected: &'static str) -> AttentionError {
    AttentionError::Parameter { name, value: value.to_string(), expected }
}

/// Inverse frequencies of a checked configuration at `total_length` positions.
pub(super) fn compute(config: &RopeConfig, total_length: usize) -> Vec<f32> {
    let dim = config.rotary_dim;
    let theta = config.theta;
    match &config.scaling {
        RopeScaling::Default => powers(theta, dim, dim).map(|power| 1.0 / power).collect(),
        RopeScaling::Linear { factor } => powers(theta, dim, dim).map(|power| 1.0 / power / *factor as f32).collect(),
        RopeScaling::Dynamic { factor, original_max_position_embeddings: original } => {
            let base = dynamic_base(theta, *factor, *original, dim, total_length);
            powers(base, dim, dim).map(|power| 1.0 / power).collect()
        }
        RopeScaling::Yarn { .. } => yarn(config),
        RopeScaling::LongRope { short_factor, long_factor, original_max_position_embeddings: original, .. } => {
            let factors = if total_length > *original { long_factor } else { short_factor };
            powers(theta, dim, dim).zip(factors).map(|(power, &factor)| 1.0 / (factor as f32 * power)).collect()
        }
        RopeScaling::Llama3 { .. } => llama3(config),
        RopeScaling::Proportional { factor, head_dim } => {
            let rotated = powers(theta, dim, *head_dim).map(|power| 1.0 / power / *factor as f32);
            rotated.chain(std::iter::repeat(0.0)).take(head_dim / 2).collect()
        }
    }
}

/// `base^(2i / denominator)` for `2i < dim`. The exponent is rounded to float32 first, as in transformers.
fn powers(base: f64, dim: usize, denominator: usize) -> impl Iterator<Item = f32> {
    let base = f64::from(base as f32);
    (0..dim).step_by(2).map(move |i| base.powf(f64::from(i as f32 / denominator as f32)) as f32)
}

/// The base grown for a length above the original one; in float32 but for the exponent, since the length is a tensor
/// there.
fn dynamic_base(theta: f64, factor: f64, original: usize, dim: usize, total_length: usize) -> f64 {
    if total_length <= original {
        return theta;
    }
    let growth = factor as f32 * total_length as f32 / original as f32 - (factor - 1.0) as f32;
    let power = f64::from(growth).powf(dim as f64 / (dim as f64 - 2.0)) as f32;
    f64::from(theta as f32 * power)
}

fn yarn(config: &RopeConfig) -> Vec<f32> {
    let RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position_embeddings, truncate, .. } =
        config.scaling
    else {
        return Vec::new();
    };
    let (dim, theta) = (config.rotary_dim, config.theta);
    let original = original_max_position_embeddings as f64;
    // The dimension that makes a number of rotations over the original length.
    let correction = |rotations: f64| dim as f64 * (original / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln());
    let (mut low, mut high) = (correction(beta_fast), correction(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    powers(theta, dim, dim)
        .enumerate()
        .map(|(i, power)| {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let extrapolated = 1.0 - ramp;
            (1.0 / (factor as f32 * power)) * (1.0 - extrapolated) + (1.0 / power) * extrapolated
        })
        .collect()
}

fn llama3(config: &RopeConfig) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
        config.scaling
    else {
        return Vec::new();
    };
    let original = original_max_position_embeddings as f64;
    let longest = (original / low_freq_factor) as f32;
    let shortest = (original / high_freq_factor) as f32;
    powers(config.theta, config.rotary_dim, config.rotary_dim)
        .map(|power| {
            let frequency = 1.0 / power;
            let wavelength = (2.0 * PI) as f32 / frequency;
            if wavelength > longest {
                frequency / factor as f32
            } else if wavelength < shortest {
                frequency
            } else {
                let smooth = (original as f32 / wavelength - low_freq_factor as f32)
                    / (high_freq_factor - low_freq_factor) as f32;
                (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
            }
        })
        .collect()
}
