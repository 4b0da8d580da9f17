//! AVX-512 F and BW: one instruction looks sixteen single-precision values up.

use std::arch::x86_64::*;

use super::{CHUNK, MAX_ROWS, RowWeights};
use crate::QuantType;

/// Activations in the order in which `dot` decodes weights: of each chunk the even places, then the odd ones. Whole chunks only.
pub(super) fn reorder(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (out, x) in out.as_chunks_mut::<CHUNK>().0.iter_mut().zip(x.as_chunks::<CHUNK>().0) {
        *out = std::array::from_fn(|place| x[place % 16 * 2 + place / 16]);
    }
    out
}

/// # Safety
/// AVX-512 F and BW; the lengths are those that `Isa::dot` checks.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn dot(quant_type: QuantType, weights: &RowWeights<'_>, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows is that of `out`.
    unsafe {
        match out.len() {
            1 => rows::<1>(quant_type, weights, x, out),
            2 => rows::<2>(quant_type, weights, x, out),
            3 => rows::<3>(quant_type, weights, x, out),
            _ => rows::<MAX_ROWS>(quant_type, weights, x, out),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn rows<const ROWS: usize>(quant_type: QuantType, weights: &RowWeights<'_>, x: &[f32], out: &mut [f32]) {
    // SAFETY: the table has 16 entries.
    let table = unsafe { _mm512_loadu_ps(quant_type.decode_table().as_ptr()) };
    let columns = weights.packed.len() * 2;
    let mut totals = [_mm512_setzero_ps(); ROWS];
    let mut x = x.as_ptr();
    for (blocks, absmax) in weights.spans() {
        for (packed, &scale) in blocks.zip(absmax) {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for chunk in packed.chunks_exact(CHUNK / 2) {
                // SAFETY: a chunk has 16 bytes; `x` has `columns` elements for each row, 32 for each chunk so far.
                unsafe {
                    // The look-up reads the lower four bits of each lane only.
                    let odd = _mm512_cvtepu8_epi32(_mm_loadu_si128(chunk.as_ptr().cast()));
                    let even = _mm512_srli_epi32::<4>(odd);
                    let values = [_mm512_permutexvar_ps(even, table), _mm512_permutexvar_ps(odd, table)];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        for (half, sum) in sums.iter_mut().enumerate() {
                            let x = _mm512_loadu_ps(x.add(row * columns + 16 * half));
                            *sum = _mm512_fmadd_ps(values[half], x, *sum);
                        }
                    }
                    x = x.add(CHUNK);
                }
            }
            let scale = _mm512_set1_ps(scale);
            for (total, sums) in totals.iter_mut().zip(sums) {
                *total = _mm512_fmadd_ps(_mm512_add_ps(sums[0], sums[1]), scale, *total);
            }
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        *out = _mm512_reduce_add_ps(total);
    }
}
