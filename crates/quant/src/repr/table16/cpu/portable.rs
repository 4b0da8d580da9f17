//! Plain Rust: what the vector kernels are tested against, and what other processors run.

use super::super::{Encoder, QuantType};
use crate::cpu::{Float, magnitude};

/// The least scale that bitsandbytes divides by, as a single-precision (subnormal) number.
pub(crate) const LEAST_SCALE: f32 = 1e-38;

pub(super) fn quantize_blocks<T: Float>(
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

pub(super) fn dequantize<T: Float>(quant_type: QuantType, scale: f32, packed: &[u8], out: &mut [T]) {
    let table = quant_type.decode_table();
    for (byte, pair) in packed.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = T::from_f32(table[usize::from(byte >> 4)] * scale);
        pair[1] = T::from_f32(table[usize::from(byte & 15)] * scale);
    }
}
