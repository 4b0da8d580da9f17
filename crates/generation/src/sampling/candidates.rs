//! The candidates for the next token, and the logits processors that reduce them.
//!
//! The steps are the processors of transformers' `generation/logits_process.py` (5.23). Where that file sets a score to
//! minus infinity, the token is removed here. Arithmetic is in float32 where transformers' is, so that ties fall alike.

use crate::GenerationError;
use std::collections::BTreeSet;

/// Candidates for the next token with their scores, in the order of their ids.
///
/// ```
/// use automodel_generation::Candidates;
///
/// let mut candidates = Candidates::new(&[1.0, 3.0, 2.0, 3.0])?;
/// assert_eq!(candidates.argmax(), 1);
/// candidates.keep_top_k(2);
/// assert_eq!(candidates.iter().collect::<Vec<_>>(), [(1, 3.0), (3, 3.0)]);
/// # Ok::<(), automodel_generation::GenerationError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    tokens: Vec<u32>,
    scores: Vec<f32>,
}

impl Candidates {
    /// Every token of `logits` (`[vocab_size]`) except those at minus infinity, which masks a token.
    ///
    /// # Errors
    /// [`GenerationError::NonFiniteLogits`] for a NaN, for plus infinity, or if no token is left.
    pub fn new(logits: &[f32]) -> Result<Self, GenerationError> {
        if let Some((token, &value)) =
            logits.iter().enumerate().find(|(_, value)| value.is_nan() || **value == f32::INFINITY)
        {
            return Err(GenerationError::NonFiniteLogits { token, value });
        }
        let allowed = (0u32..).zip(logits.iter().copied()).filter(|(_, score)| *score > f32::NEG_INFINITY);
        let (tokens, scores): (Vec<u32>, Vec<f32>) = allowed.unzip();
        if tokens.is_empty() {
            return Err(GenerationError::NonFiniteLogits { token: 0, value: f32::NEG_INFINITY });
        }
        Ok(Self { tokens, scores })
    }

    /// Tokens with their scores, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.tokens.iter().copied().zip(self.scores.iter().copied())
    }

    /// `RepetitionPenaltyLogitsProcessor`: once for each token of `seen`.
    pub fn penalise_repetition(&mut self, seen: &BTreeSet<u32>, penalty: f64) {
        let penalty = penalty_of(penalty);
        for (token, score) in self.tokens.iter().zip(&mut self.scores) {
            if seen.contains(token) {
                *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
            }
        }
        self.limit_to_finite();
    }

    /// `TemperatureLogitsWarper`: divides by `temperature`, which is above 0.
    ///
    /// Where the quotient would overflow, differences to the highest score are divided: the distribution is the same.
    pub fn apply_temperature(&mut self, temperature: f64) {
        let temperature = temperature_of(temperature);
        let highest = self.highest();
        let offset = if (highest / temperature).is_finite() { 0.0 } else { highest };
        for score in &mut self.scores {
            *score = (*score - offset) / temperature;
        }
        self.limit_to_finite();
    }

    /// `TopKLogitsWarper`: the `top_k` highest, with all that equal the last of them.
    pub fn keep_top_k(&mut self, top_k: usize) {
        if top_k == 0 || top_k >= self.scores.len() {
            return;
        }
        let mut sorted = self.scores.clone();
        let (_, &mut least, _) = sorted.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
        self.retain(|_, score| score >= least);
    }

    /// `TopPLogitsWarper`: without the least probable tokens that together have at most `1 - top_p`, keeping one.
    /// Of equal scores the lower ids go first, as a stable ascending sort puts them.
    pub fn keep_top_p(&mut self, top_p: f64) {
        if top_p >= 1.0 {
            return;
        }
        let mut order: Vec<usize> = (0..self.scores.len()).collect();
        order.sort_by(|&a, &b| self.scores[a].partial_cmp(&self.scores[b]).unwrap_or(std::cmp::Ordering::Equal));
        let probabilities = self.probabilities();
        let surplus = surplus_of(top_p);
        let mut removed = vec![false; order.len()];
        let mut cumulative = 0.0f64;
        for &index in &order[..order.len() - 1] {
            cumulative += f64::from(probabilities[index]);
            removed[index] = cumulative as f32 <= surplus;
        }
        self.retain(|index, _| !removed[index]);
    }

    /// `MinPLogitsWarper`: tokens of at least `min_p` times the highest probability.
    pub fn keep_min_p(&mut self, min_p: f64) {
        if min_p <= 0.0 {
            return;
        }
        let probabilities = self.probabilities();
        let highest = probabilities.iter().copied().fold(0.0f32, f32::max);
        let least = (min_p as f32 * highest).min(highest);
        self.retain(|index, _| probabilities[index] >= least);
    }

    /// The token of the highest score; of equal ones the lowest id, as `torch.argmax` gives on a CPU.
    pub fn argmax(&self) -> u32 {
        let highest = self.highest();
        self.iter().find(|&(_, score)| score >= highest).map_or(0, |(token, _)| token)
    }

    /// The token in whose share of the distribution `uniform` (in 0..1) falls, tokens in the order of their ids.
    pub fn draw(&self, uniform: f64) -> u32 {
        let highest = f64::from(self.highest());
        let weights: Vec<f64> = self.scores.iter().map(|&score| (f64::from(score) - highest).exp()).collect();
        let target = uniform * weights.iter().sum::<f64>();
        let mut cumulative = 0.0;
        for (&token, weight) in self.tokens.iter().zip(&weights) {
            cumulative += weight;
            if cumulative > target {
                return token;
            }
        }
        // Rounding left the target slightly above the sum: the last token with any weight.
        self.tokens
            .iter()
            .zip(&weights)
            .rfind(|(_, weight)| **weight > 0.0)
            .map_or_else(|| self.argmax(), |(&token, _)| token)
    }

    fn highest(&self) -> f32 {
        self.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    fn probabilities(&self) -> Vec<f32> {
        let highest = f64::from(self.highest());
        let weights: Vec<f64> = self.scores.iter().map(|&score| (f64::from(score) - highest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| (weight / sum) as f32).collect()
    }

    /// Finite scores can overflow float32 when they are scaled; they are clamped to its range.
    fn limit_to_finite(&mut self) {
        for score in &mut self.scores {
            *score = score.clamp(f32::MIN, f32::MAX);
        }
    }

    fn retain(&mut self, keep: impl Fn(usize, f32) -> bool) {
        let kept: Vec<bool> = self.scores.iter().enumerate().map(|(index, &score)| keep(index, score)).collect();
        let mut flags = kept.iter();
        self.tokens.retain(|_| *flags.next().unwrap_or(&true));
        let mut flags = kept.iter();
        self.scores.retain(|_| *flags.next().unwrap_or(&true));
    }
}

/// The repetition penalty that float32 scores are multiplied with or divided by.
pub(super) fn penalty_of(penalty: f64) -> f32 {
    (penalty as f32).clamp(f32::MIN_POSITIVE, f32::MAX)
}

/// The temperature that float32 scores are divided by.
pub(super) fn temperature_of(temperature: f64) -> f32 {
    (temperature as f32).max(f32::MIN_POSITIVE)
}

/// The probability that the tokens which top-p removes have together at most.
pub(super) fn surplus_of(top_p: f64) -> f32 {
    (1.0 - top_p) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_takes_the_lowest_id_of_equals() {
        assert_eq!(Candidates::new(&[0.0, -0.0, 0.0]).unwrap().argmax(), 0);
        assert_eq!(Candidates::new(&[f32::NEG_INFINITY, -3.0, 5.0, 5.0]).unwrap().argmax(), 2);
    }

    #[test]
    fn rejects_nan_and_infinite_logits() {
        for bad in [vec![0.0, f32::NAN], vec![0.0, f32::INFINITY], vec![f32::NEG_INFINITY; 2], vec![]] {
            assert!(matches!(Candidates::new(&bad), Err(GenerationError::NonFiniteLogits { .. })), "{bad:?}");
        }
    }

    #[test]
    fn extreme_options_leave_one_token() {
        let logits = [3.0e38f32, -3.0e38, 1.0, 3.0e38];
        let mut candidates = Candidates::new(&logits).unwrap();
        candidates.penalise_repetition(&BTreeSet::from([0, 1]), 1e-30);
        candidates.apply_temperature(1e-300);
        candidates.keep_top_k(1);
        candidates.keep_top_p(0.0);
        candidates.keep_min_p(1.0);
        assert_eq!(candidates.iter().count(), 1);
        for uniform in [0.0, 0.5, 1.0 - f64::EPSILON] {
            assert_eq!(candidates.draw(uniform), 0);
        }
    }

    #[test]
    fn draws_by_share() {
        let candidates = Candidates::new(&[0.0, 3.0f32.ln(), f32::NEG_INFINITY]).unwrap();
        assert_eq!(candidates.draw(0.24), 0);
        assert_eq!(candidates.draw(0.26), 1);
        assert_eq!(candidates.draw(1.0), 1);
    }
}
