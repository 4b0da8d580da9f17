//! The passes of a softmax over one row of scores.

use crate::dispatch::dispatched;

/// Elements handled side by side.
const LANES: usize = 16;

dispatched! {
    /// The largest element; negative infinity if there is none.
    max => portable_max(row: &[f32]) -> f32
}

dispatched! {
    /// Replaces each `x` by `exp(x - max)` and returns the sum; `max` is at least every element.
    exp_sum => portable_exp_sum(row: &mut [f32], max: f32) -> f32
}

/// Replaces each `x` by `cap * tanh(x)`.
pub(crate) fn cap(row: &mut [f32], cap: f32) {
    row.iter_mut().for_each(|x| *x = cap * x.tanh());
}

#[inline(always)]
fn portable_max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

#[inline(always)]
fn portable_exp_sum(row: &mut [f32], max: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - max);
            *sum += *x;
        }
    }
    let mut total: f32 = sums.iter().sum();
    for x in rest {
        *x = exp(*x - max);
        total += *x;
    }
    total
}

/// `exp(x)` for `x <= 0` to within 2 units in the last place, without branches; below -87 the value at -87
/// (1.6e-38). NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial for `exp(r)` (the coefficients of Cephes' `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let power_of_two = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(1.0_f32.to_bits()));
    (p * r * r + r + 1.0) * power_of_two
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in 0..=87_000 {
            let x = -(i as f32 * 1e-3).min(87.0);
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 2e-38);
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn rows_of_every_length() {
        for length in 0..70 {
            let row: Vec<f32> = (0..length).map(|i| ((i * 37) % 23) as f32 - 11.0).collect();
            let expected_max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&row), expected_max);
            if row.is_empty() {
                continue;
            }
            let expected: f64 = row.iter().map(|&x| f64::from(x - expected_max).exp()).sum();
            let mut weights = row.clone();
            let sum = exp_sum(&mut weights, expected_max);
            assert!((f64::from(sum) - expected).abs() < 1e-5);
            assert!((weights.iter().sum::<f32>() - sum).abs() < 1e-5);
        }
    }

    #[test]
    fn not_a_number_reaches_the_sum() {
        let mut row = vec![0.0; 40];
        row[21] = f32::NAN;
        let largest = max(&row);
        assert_eq!(largest, 0.0);
        assert!(exp_sum(&mut row, largest).is_nan());
    }
}
