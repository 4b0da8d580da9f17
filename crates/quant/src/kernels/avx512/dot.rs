//! One row of weights times a few rows of activations, in single precision: one instruction looks sixteen codes up.

use std::arch::x86_64::*;

use super::group::{GROUP, Groups, padded};
use crate::{
    QuantType,
    kernels::{Aligned, MAX_ROWS, RowWeights},
};

/// Lanes of a vector.
const LANES: usize = 16;

/// Codes of a lane, each looked up in a vector of its own.
const NIBBLES: usize = GROUP / LANES;

/// Activations in the order in which `dot` looks weights up: of each group the elements of the lowest nibble of each lane, then
/// those of the next. The first element of a byte is its higher nibble.
pub(in crate::kernels) fn reorder(x: &[f32], columns: usize) -> Aligned<f32> {
    let mut out = padded(x, columns);
    for group in out.as_chunks_mut::<GROUP>().0 {
        let x = *group;
        *group = std::array::from_fn(|place| x[place % LANES * NIBBLES + ((place / LANES) ^ 1)]);
    }
    out
}

/// # Safety
/// AVX-512 F; the lengths are those that `Isa::dot` checks.
#[target_feature(enable = "avx512f")]
pub(in crate::kernels) unsafe fn dot(quant_type: QuantType, weights: &RowWeights<'_>, x: &[f32], out: &mut [f32]) {
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
#[target_feature(enable = "avx512f")]
unsafe fn rows<const ROWS: usize>(quant_type: QuantType, weights: &RowWeights<'_>, x: &[f32], out: &mut [f32]) {
    // SAFETY: the table has 16 entries.
    let table = unsafe { _mm512_loadu_ps(quant_type.decode_table().as_ptr()) };
    let width = x.len() / ROWS;
    let mut totals = [_mm512_setzero_ps(); ROWS];
    let mut groups = Groups::new(weights);
    let mut x = x.as_ptr();
    // SAFETY: each row of activations has 128 elements for each group, in vectors of 16.
    unsafe {
        while let Some((codes, scales)) = groups.next() {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            let values = shifted(codes).map(|codes| _mm512_permutexvar_ps(codes, table));
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = x.add(row * width);
                for (nibble, &values) in values.iter().enumerate() {
                    let x = _mm512_loadu_ps(x.add(LANES * nibble));
                    sums[nibble % 2] = if nibble < 2 {
                        _mm512_mul_ps(values, x)
                    } else {
                        _mm512_fmadd_ps(values, x, sums[nibble % 2])
                    };
                }
            }
            for (total, sums) in totals.iter_mut().zip(sums) {
                *total = _mm512_fmadd_ps(_mm512_add_ps(sums[0], sums[1]), scales, *total);
            }
            x = x.add(GROUP);
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        *out = _mm512_reduce_add_ps(total);
    }
}

/// Each nibble of the lanes where a look-up reads it: in the lowest four bits, below others that it ignores.
#[inline]
#[target_feature(enable = "avx512f")]
fn shifted(codes: __m512i) -> [__m512i; NIBBLES] {
    [
        codes,
        _mm512_srli_epi32::<4>(codes),
        _mm512_srli_epi32::<8>(codes),
        _mm512_srli_epi32::<12>(codes),
        _mm512_srli_epi32::<16>(codes),
        _mm512_srli_epi32::<20>(codes),
        _mm512_srli_epi32::<24>(codes),
        _mm512_srli_epi32::<28>(codes),
    ]
}
