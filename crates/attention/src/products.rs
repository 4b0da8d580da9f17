//! Products of a few rows of queries with many keys and values, read once through their strides.
//!
//! A general matrix product first packs its operands, which costs more than it saves for the few rows of a decoding
//! step.

use crate::dispatched;

/// Elements, or keys, handled side by side.
const LANES: usize = 8;

/// A matrix in memory whose rows are contiguous and `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) count: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.width]
    }
}

dispatched! {
    /// Writes `scores[r, j] = q[r] . k[j]`; `q` is `[rows, width]`, `scores` is `[rows, keys]`, both contiguous.
    scores => portable_scores(q: &[f32], k: Rows<'_>, scores: &mut [f32])
}

dispatched! {
    /// Adds `weights[r, j] * v[j]` to `output[r]`; `weights` is `[rows, keys]`, `output` is `[rows, width]`.
    add_weighted => portable_add_weighted(weights: &[f32], v: Rows<'_>, output: &mut [f32])
}

#[inline(always)]
fn portable_scores(q: &[f32], k: Rows<'_>, scores: &mut [f32]) {
    // Eight keys at a time: their eight sums of eight lanes are added up by one transposition.
    let whole = k.count / LANES * LANES;
    for key in (0..whole).step_by(LANES) {
        let keys: [&[f32]; LANES] = std::array::from_fn(|i| k.row(key + i));
        for (query, scores) in q.chunks_exact(k.width).zip(scores.chunks_exact_mut(k.count)) {
            scores[key..key + LANES].copy_from_slice(&dots(query, keys));
        }
    }
    for key in whole..k.count {
        for (query, scores) in q.chunks_exact(k.width).zip(scores.chunks_exact_mut(k.count)) {
            [scores[key]] = dots(query, [k.row(key)]);
        }
    }
}

/// The scalar products of `query` with each of `keys`.
#[inline(always)]
fn dots<const N: usize>(query: &[f32], keys: [&[f32]; N]) -> [f32; N] {
    let (query_chunks, query_rest) = query.as_chunks::<LANES>();
    let keys = keys.map(|key| key.as_chunks::<LANES>());
    let mut sums = [[0.0; LANES]; N];
    for (index, query) in query_chunks.iter().enumerate() {
        for (sums, (key, _)) in sums.iter_mut().zip(&keys) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += query[lane] * key[index][lane];
            }
        }
    }
    let mut totals = sums.map(|s| ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
    for (total, (_, key_rest)) in totals.iter_mut().zip(&keys) {
        *total += query_rest.iter().zip(*key_rest).map(|(a, b)| a * b).sum::<f32>();
    }
    totals
}

#[inline(always)]
fn portable_add_weighted(weights: &[f32], v: Rows<'_>, output: &mut [f32]) {
    let whole = v.count / 4 * 4;
    for key in (0..whole).step_by(4) {
        let rows = [v.row(key), v.row(key + 1), v.row(key + 2), v.row(key + 3)];
        for (weights, output) in weights.chunks_exact(v.count).zip(output.chunks_exact_mut(v.width)) {
            let [w0, w1, w2, w3] = [weights[key], weights[key + 1], weights[key + 2], weights[key + 3]];
            let values = rows[0].iter().zip(rows[1]).zip(rows[2]).zip(rows[3]);
            for (output, (((v0, v1), v2), v3)) in output.iter_mut().zip(values) {
                *output += (w0 * v0 + w1 * v1) + (w2 * v2 + w3 * v3);
            }
        }
    }
    for key in whole..v.count {
        for (weights, output) in weights.chunks_exact(v.count).zip(output.chunks_exact_mut(v.width)) {
            let weight = weights[key];
            output.iter_mut().zip(v.row(key)).for_each(|(output, value)| *output += weight * value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that sums are exact in any order.
    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| (i * step % 7) as f32 - 3.0).collect()
    }

    #[test]
    fn equal_plain_loops() {
        for (rows, keys, width, stride) in [(1, 1, 1, 1), (3, 9, 5, 8), (2, 6, 32, 32), (8, 7, 70, 75), (4, 4, 64, 200)]
        {
            let q = numbers(rows * width, 3);
            let data = numbers((keys - 1) * stride + width, 5);
            let matrix = Rows { data: &data, stride, width, count: keys };
            let mut found = vec![f32::NAN; rows * keys];
            scores(&q, matrix, &mut found);
            for row in 0..rows {
                for key in 0..keys {
                    let expected: f32 = (0..width).map(|i| q[row * width + i] * data[key * stride + i]).sum();
                    assert_eq!(found[row * keys + key], expected, "row {row}, key {key}");
                }
            }

            let weights = numbers(rows * keys, 2);
            let mut output = numbers(rows * width, 4);
            let before = output.clone();
            add_weighted(&weights, matrix, &mut output);
            for row in 0..rows {
                for i in 0..width {
                    let sum: f32 = (0..keys).map(|key| weights[row * keys + key] * data[key * stride + i]).sum();
                    assert_eq!(output[row * width + i], before[row * width + i] + sum, "row {row}, element {i}");
                }
            }
        }
    }

    #[test]
    fn the_portable_twins_give_the_same_bits() {
        let fractions = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| (i * step % 97) as f32 * 0.31 - 14.0).collect()
        };
        let (rows, keys, width, stride) = (3, 21, 70, 75);
        let data = fractions((keys - 1) * stride + width, 5);
        let matrix = Rows { data: &data, stride, width, count: keys };
        let q = fractions(rows * width, 3);
        let mut found = [vec![0.0; rows * keys], vec![0.0; rows * keys]];
        scores(&q, matrix, &mut found[0]);
        portable_scores(&q, matrix, &mut found[1]);
        assert_eq!(found[0], found[1]);

        let mut output = [q.clone(), q];
        add_weighted(&found[0], matrix, &mut output[0]);
        portable_add_weighted(&found[0], matrix, &mut output[1]);
        assert_eq!(output[0], output[1]);
    }
}
