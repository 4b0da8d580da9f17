//! Options of sampling.

use crate::GenerationError;

/// Options of sampling. The default is that of transformers: greedy decoding.
///
/// ```
/// use automodel_generation::SamplingOptions;
///
/// let options = SamplingOptions { do_sample: true, temperature: 0.7, top_p: 0.9, ..SamplingOptions::default() };
/// options.validate()?;
/// let wrong = SamplingOptions { top_p: 1.5, ..options };
/// assert!(wrong.validate().unwrap_err().to_string().contains("top_p"));
/// # Ok::<(), automodel_generation::GenerationError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Sample from the distribution; otherwise greedy decoding takes the highest logit, and of equal ones the lowest id.
    pub do_sample: bool,
    /// Divisor of the logits before sampling; above 0.
    pub temperature: f64,
    /// Number of highest logits to keep, with those equal to the last of them; 0 keeps all.
    pub top_k: usize,
    /// Nucleus sampling: total probability of the kept tokens, in 0..=1; 1 keeps all.
    pub top_p: f64,
    /// Minimum probability to keep, as a share of the highest one, in 0..=1; 0 keeps all.
    pub min_p: f64,
    /// Divisor of positive and factor of negative logits of tokens that occurred; above 0. 1 has no effect. Applies to greedy decoding
    /// as well.
    pub repetition_penalty: f64,
    /// Seed of the random numbers. Equal seeds and equal logits give equal tokens on every platform.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// `_get_default_generation_params` of transformers 5.23, with seed 0.
    fn default() -> Self {
        Self { do_sample: false, temperature: 1.0, top_k: 50, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl SamplingOptions {
    /// Checks every option against its range.
    ///
    /// # Errors
    /// [`GenerationError::InvalidOption`] with the name of the first option out of its range. A temperature of 0 is
    /// accepted while `do_sample` is off, since generation configs of greedy models say so.
    pub fn validate(&self) -> Result<(), GenerationError> {
        let least = if self.do_sample { f64::MIN_POSITIVE } else { 0.0 };
        check("temperature", self.temperature, self.temperature >= least && self.temperature.is_finite(), {
            "a finite number above 0 (for greedy decoding turn `do_sample` off)"
        })?;
        check("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "in 0..=1")?;
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "in 0..=1")?;
        let penalty = self.repetition_penalty;
        check(
            "repetition_penalty",
            penalty,
            penalty > 0.0 && penalty.is_finite(),
            "a finite number above 0 (1 has no effect)",
        )
    }
}

fn check(option: &'static str, value: f64, valid: bool, expected: &'static str) -> Result<(), GenerationError> {
    if valid { Ok(()) } else { Err(GenerationError::InvalidOption { option, value: value.to_string(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected_option(options: SamplingOptions) -> Option<&'static str> {
        match options.validate() {
            Ok(()) => None,
            Err(GenerationError::InvalidOption { option, .. }) => Some(option),
            Err(other) => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn names_the_option_out_of_range() {
        let sampling = SamplingOptions { do_sample: true, ..SamplingOptions::default() };
        assert_eq!(rejected_option(sampling.clone()), None);
        for bad in [f64::NAN, -0.1, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(rejected_option(SamplingOptions { temperature: bad, ..sampling.clone() }), Some("temperature"));
            assert_eq!(rejected_option(SamplingOptions { top_p: bad, ..sampling.clone() }), Some("top_p"));
            assert_eq!(rejected_option(SamplingOptions { min_p: bad, ..sampling.clone() }), Some("min_p"));
            let penalised = SamplingOptions { repetition_penalty: bad, ..sampling.clone() };
            assert_eq!(rejected_option(penalised), Some("repetition_penalty"));
        }
        assert_eq!(rejected_option(SamplingOptions { top_p: 1.01, ..sampling.clone() }), Some("top_p"));
        assert_eq!(
            rejected_option(SamplingOptions { repetition_penalty: 0.0, ..sampling }),
            Some("repetition_penalty")
        );
    }

    #[test]
    fn zero_temperature_is_valid_for_greedy_decoding_alone() {
        let greedy = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
        assert_eq!(rejected_option(greedy.clone()), None);
        assert_eq!(rejected_option(SamplingOptions { do_sample: true, ..greedy }), Some("temperature"));
    }
}
