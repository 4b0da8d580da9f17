//! Sampling options in the form of the kernel.

use crate::SamplingOptions;
use crate::sampling::candidates::{penalty_of, surplus_of, temperature_of};

/// The logits processors of a row. `None` leaves one out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "for sampling kernels alone"))]
pub(crate) struct Rules {
    pub penalty: Option<f32>,
    /// How a token is sampled; `None` for greedy decoding.
    pub draw: Option<Draw>,
}

/// How a token is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "for sampling kernels alone"))]
pub(crate) struct Draw {
    pub temperature: f32,
    pub top_k: Option<u32>,
    /// Maximum share of all weights that top-p removes, in units of 2^-32.
    pub surplus: Option<u32>,
    pub min_p: Option<f32>,
}

impl Rules {
    pub fn new(options: &SamplingOptions, vocab_size: usize) -> Self {
        let SamplingOptions { top_k, top_p, min_p, repetition_penalty, .. } = *options;
        let draw = || Draw {
            temperature: temperature_of(options.temperature),
            top_k: (top_k > 0 && top_k < vocab_size).then_some(top_k as u32),
            surplus: (top_p < 1.0).then(|| surplus(top_p)),
            min_p: (min_p > 0.0).then_some(min_p as f32),
        };
        Self {
            penalty: (repetition_penalty != 1.0).then(|| penalty_of(repetition_penalty)),
            draw: options.do_sample.then(draw),
        }
    }
}

/// The host rounds a sum of probabilities to float32 before it compares: sums below the midpoint between this float and the next are
/// rounded to at most this one.
fn surplus(top_p: f64) -> u32 {
    let surplus = surplus_of(top_p);
    let middle = (f64::from(surplus) + f64::from(surplus.next_up())) / 2.0;
    // Even a surplus of everything keeps the most probable token: no kept weight is as small as the last unit.
    (middle * 2.0f64.powi(32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_without_effect_are_left_out() {
        let options = SamplingOptions { do_sample: true, ..SamplingOptions::default() };
        let draw = Draw { temperature: 1.0, top_k: Some(50), surplus: None, min_p: None };
        assert_eq!(Rules::new(&options, 51), Rules { penalty: None, draw: Some(draw) });
        assert_eq!(Rules::new(&options, 50).draw.unwrap().top_k, None);
        let greedy = SamplingOptions { repetition_penalty: 1.5, top_p: 0.5, ..SamplingOptions::default() };
        assert_eq!(Rules::new(&greedy, 51), Rules { penalty: Some(1.5), draw: None });
    }

    #[test]
    fn shares_are_rounded_like_the_host_rounds_sums() {
        assert_eq!(surplus(0.5), (1 << 31) + (1 << 7));
        assert_eq!(surplus(0.0), u32::MAX);
        // Seven tenths as the sum of float32 tenths is a little above the float32 that is next to it, and equal once rounded.
        assert!(f64::from(surplus(0.3)) / 2.0f64.powi(32) > 0.7);
    }
}
