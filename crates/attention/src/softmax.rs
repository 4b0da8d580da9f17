//! The passes of a softmax over one row of scores.

use crate::dispatched;
use crate::elementary::{exp, tanh};

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

dispatched! {
    /// Replaces each `x` by `cap * tanh(x)`.
    cap => portable_cap(row: &mut [f32], cap: f32)
}

#[inline(always)]
fn portable_cap(row: &mut [f32], cap: f32) {
    row.iter_mut().for_each(|x| *x = cap * tanh(*x));
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut portable = row.clone();
            assert_eq!(portable_exp_sum(&mut portable, expected_max).to_bits(), sum.to_bits());
            assert_eq!(portable, weights);

            let (mut wide, mut portable) = (row.clone(), row.clone());
            cap(&mut wide, 3.0);
            portable_cap(&mut portable, 3.0);
            assert_eq!(wide, portable);
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
