//! Linear biases on attention scores (ALiBi, Press et al. 2021), as transformers computes them for BLOOM, MPT and Falcon.

use crate::attention::Sizes;
use crate::mask::CallMask;
use burn::tensor::{Device, Tensor, TensorData, bf16};
use std::ops::Range;

/// `factor * slope * position` of the key, added to each score. Positions count from the padding. A softmax does not see what is added
/// to all scores, so that only the distances between keys count.
///
/// ```
/// use automodel_attention::Alibi;
/// assert_eq!(Alibi::slopes(4), [0.25, 0.0625, 0.015625, 0.00390625]);
/// // Numbers of heads between powers of two have slopes between those of the smaller one.
/// assert_eq!(Alibi::slopes(3), [0.0625, 0.00390625, 0.25]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alibi {
    /// Factor on all biases: 1, or that of the scores where biases are added before the scaling.
    pub factor: f64,
    /// Whether slopes, positions and their products are rounded to bfloat16 (Falcon).
    pub in_bfloat16: bool,
}

impl Alibi {
    /// The slope of each head (`build_alibi_tensor` in transformers' modeling_bloom.py, which takes powers of float32 bases).
    pub fn slopes(heads: usize) -> Vec<f32> {
        let whole = if heads == 0 { 0 } else { 1_usize << heads.ilog2() };
        let powers = |bases: usize, step: usize, count: usize| {
            let base = f64::from((-8.0 / bases as f64).exp2() as f32);
            (0..count).map(move |index| base.powi((1 + step * index) as i32) as f32)
        };
        powers(whole, 1, whole).chain(powers(2 * whole, 2, heads - whole)).collect()
    }

    /// What a key at `position` adds to the scores of a head.
    #[inline]
    pub(crate) fn bias(&self, slope: f32, position: usize) -> f32 {
        let factor = self.factor as f32;
        if !self.in_bfloat16 {
            return slope * position as f32 * factor;
        }
        let rounded = |x: f32| bf16::from_f32(x).to_f32();
        rounded(rounded(slope) * rounded(position as f32)) * factor
    }

    /// Adds the biases of `keys` to their scores `[batch, kv_heads, group * queries, keys]`.
    pub(crate) fn add_to(
        &self,
        scores: Tensor<4>,
        mask: &CallMask<'_>,
        keys: &Range<usize>,
        sizes: &Sizes,
    ) -> Tensor<4> {
        let [batch, kv_heads, rows, width] = scores.dims();
        let group = sizes.group();
        let biases = self.biases(mask, keys, sizes, &scores.device()).cast(scores.dtype());
        let scores = scores.reshape([batch, kv_heads, group, rows / group, width]);
        (scores + biases).reshape([batch, kv_heads, rows, width])
    }

    /// `[rows of the mask, kv_heads, group, 1, keys]`
    fn biases(&self, mask: &CallMask<'_>, keys: &Range<usize>, sizes: &Sizes, device: &Device) -> Tensor<5> {
        let (rows, width) = (mask.rows(), keys.len());
        let slopes = Self::slopes(sizes.heads);
        let positions: Vec<usize> =
            (0..rows).flat_map(|row| keys.clone().map(move |key| mask.key_position(row, key))).collect();
        let tensor = |values: Vec<f32>, shape: [usize; 5]| Tensor::from_data(TensorData::new(values, shape), device);
        if self.in_bfloat16 {
            let of_row = |row: &[usize]| -> Vec<f32> {
                slopes.iter().flat_map(|&slope| row.iter().map(move |&position| self.bias(slope, position))).collect()
            };
            let values = positions.chunks_exact(width).flat_map(of_row).collect();
            return tensor(values, [rows, sizes.kv_heads, sizes.group(), 1, width]);
        }
        let slopes = tensor(slopes, [1, sizes.kv_heads, sizes.group(), 1, 1]);
        let positions = positions.into_iter().map(|position| position as f32).collect();
        slopes * tensor(positions, [rows, 1, 1, 1, width]) * self.factor as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Float32 values of transformers 5.23's `_get_alibi_slopes(12)`.
    #[test]
    fn twelve_heads_take_the_odd_powers_of_sixteen() {
        let expected = [
            0.5,
            0.25,
            0.125,
            0.0625,
            0.03125,
            0.015625,
            0.0078125,
            0.00390625,
            0.70710677,
            0.35355338,
            0.17677669,
            0.088388346,
        ];
        for (slope, expected) in Alibi::slopes(12).into_iter().zip(expected) {
            assert!((slope - expected as f32).abs() <= 1e-7 * expected as f32, "{slope}, not {expected}");
        }
        assert_eq!((Alibi::slopes(0).len(), Alibi::slopes(71).len()), (0, 71));
    }

    #[test]
    fn bfloat16_rounds_slopes_positions_and_products() {
        let rounded = Alibi { factor: 1.0, in_bfloat16: true };
        let exact = Alibi { in_bfloat16: false, ..rounded };
        // 257 has nine bits, of which bfloat16 keeps eight; the products of 0.70703125 and 300 are in steps of 1.
        assert_eq!((rounded.bias(0.5, 257), exact.bias(0.5, 257)), (128.0, 128.5));
        assert_eq!(rounded.bias(0.707_106_77, 300), 212.0);
        assert_eq!(Alibi { factor: 0.25, ..rounded }.bias(0.5, 4), 0.5);
    }
}
