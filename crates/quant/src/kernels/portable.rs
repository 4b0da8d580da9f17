//! Plain Rust: what the vector kernels are tested against, and what other processors run.

use super::{Kernel, MAX_ROWS, RowWeights};
use crate::table16::{Encoder, QuantType};

/// The least scale that bitsandbytes divides by, as a single-precision (subnormal) number.
pub(crate) const LEAST_SCALE: f32 = 1e-38;

pub(super) fn quantize_blocks<T: Kernel>(
    encoder: &Encoder,
    blocksize: usize,
    values: &[T],
    packed: &mut [u8],
    absmax: &mut [f32],
) -> Result<(), usize> {
    let blocks = values.chunks_exact(blocksize).zip(packed.chunks_exact_mut(blocksize / 2));
    for (place, ((values, packed), absmax)) in blocks.zip(absmax).enumerate() {
        *absmax = magnitude(values).ok_or(place)?;
        let scale = 1.0 / absmax.max(LEAST_SCALE);
        for (pair, byte) in values.chunks_exact(2).zip(packed) {
            *byte = encoder.encode(pair[0].to_f32() * scale) << 4 | encoder.encode(pair[1].to_f32() * scale);
        }
    }
    Ok(())
}

/// The greatest absolute value; `None` if there is an element that is not finite.
pub(crate) fn magnitude<T: Kernel>(values: &[T]) -> Option<f32> {
    let bits = values.iter().fold(0, |bits, value| bits.max(value.to_f32().to_bits() & 0x7fff_ffff));
    (bits < f32::INFINITY.to_bits()).then_some(f32::from_bits(bits))
}

pub(super) fn dequantize<T: Kernel>(quant_type: QuantType, scale: f32, packed: &[u8], out: &mut [T]) {
    let table = quant_type.decode_table();
    for (byte, pair) in packed.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = T::from_f32(table[usize::from(byte >> 4)] * scale);
        pair[1] = T::from_f32(table[usize::from(byte & 15)] * scale);
    }
}

/// Activations are in their own order, row after row.
pub(super) fn dot(quant_type: QuantType, weights: &RowWeights<'_>, x: &[f32], out: &mut [f32]) {
    const LANES: usize = 8;
    let table = quant_type.decode_table();
    let columns = weights.packed.len() * 2;
    let mut sums = [[0.0f32; LANES]; MAX_ROWS];
    let mut column = 0;
    for (blocks, absmax) in weights.spans() {
        for (packed, &scale) in blocks.zip(absmax) {
            for bytes in packed.chunks_exact(LANES / 2) {
                let mut values = [0.0; LANES];
                for (pair, byte) in values.chunks_exact_mut(2).zip(bytes) {
                    pair[0] = table[usize::from(byte >> 4)] * scale;
                    pair[1] = table[usize::from(byte & 15)] * scale;
                }
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
pub(super) fn dot_dense<T: Kernel>(rows: &[T], columns: usize, x: &[f32], out: &mut [f32]) {
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
