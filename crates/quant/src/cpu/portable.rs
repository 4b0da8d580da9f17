//! Plain Rust: what the vector kernels are tested against, and what other processors run.

use super::{Decode, Float, MAX_ROWS, Row};

/// The greatest absolute value; `None` if there is an element that is not finite.
pub(crate) fn magnitude<T: Float>(values: &[T]) -> Option<f32> {
    let bits = values.iter().fold(0, |bits, value| bits.max(value.to_f32().to_bits() & 0x7fff_ffff));
    (bits < f32::INFINITY.to_bits()).then_some(f32::from_bits(bits))
}

/// Activations are in their own order, row after row.
pub(super) fn dot<D: Decode>(decoder: D, row: &Row<'_>, x: &[f32], out: &mut [f32]) {
    const LANES: usize = 8;
    let columns = row.columns::<D>();
    let mut sums = [[0.0f32; LANES]; MAX_ROWS];
    let mut column = 0;
    for (blocks, scales) in row.spans::<D>() {
        for (codes, &scale) in blocks.zip(scales) {
            for codes in codes.chunks_exact(D::CHUNK_BYTES / 4) {
                let values = decoder.eight(codes).map(|value| value * scale);
                for (sums, x) in sums.iter_mut().zip(x.chunks_exact(columns)) {
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        *sum += values[lane] * x[column + lane];
                    }
                }
                column += LANES;
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sums.iter().sum();
    }
}

/// Rows of floats `[rows, columns]` times rows of activations: `[rows, x_rows]`.
pub(super) fn dot_dense<T: Float>(rows: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
    const LANES: usize = 8;
    let m = x.len() / columns;
    for (row, out) in rows.chunks_exact(columns).zip(out.chunks_exact_mut(m)) {
        let (vectors, rest) = row.as_chunks::<LANES>();
        for (x, out) in x.chunks_exact(columns).zip(out) {
            let (x_vectors, x_rest) = x.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for (w, x) in vectors.iter().zip(x_vectors) {
                for lane in 0..LANES {
                    sums[lane] += w[lane].to_f32() * x[lane];
                }
            }
            *out = sums.iter().sum::<f32>() + rest.iter().zip(x_rest).map(|(w, x)| w.to_f32() * x).sum::<f32>();
        }
    }
}
