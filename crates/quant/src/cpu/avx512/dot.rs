//! One row of weights times a few rows of activations, in single precision, for any decoder.

use std::arch::x86_64::*;

use super::group::{GROUP, Groups, padded};
use crate::cpu::{self, Aligned, MAX_ROWS, Row};

/// Lanes of a vector.
const LANES: usize = 16;

/// Vectors of a group.
pub(crate) const VECTORS: usize = GROUP / LANES;

/// Turns the codes of a group into values.
pub(crate) trait Decode: Copy {
    /// Which element of a group the lane `place % 16` of the vector `place / 16` has.
    fn element(place: usize) -> usize;

    /// The values of a group. If `codes` end within it, those of the missing codes are any finite numbers.
    ///
    /// # Safety
    /// AVX-512 F and BW.
    unsafe fn decode(&self, codes: &[u8]) -> [__m512; VECTORS];
}

/// Activations in the order in which `dot` decodes weights.
pub(crate) fn reorder<D: Decode>(x: &[f32], columns: usize) -> Aligned<f32> {
    let mut out = padded(x, columns);
    for group in out.as_chunks_mut::<GROUP>().0 {
        let x = *group;
        *group = std::array::from_fn(|place| x[D::element(place)]);
    }
    out
}

/// # Safety
/// AVX-512 F and BW; the lengths are those that `Isa::dot` checks.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn dot<D: cpu::Decode>(decoder: D::Avx512, row: &Row<'_>, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows is that of `out`.
    unsafe {
        match out.len() {
            1 => rows::<D, 1>(decoder, row, x, out),
            2 => rows::<D, 2>(decoder, row, x, out),
            3 => rows::<D, 3>(decoder, row, x, out),
            _ => rows::<D, MAX_ROWS>(decoder, row, x, out),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn rows<D: cpu::Decode, const ROWS: usize>(decoder: D::Avx512, row: &Row<'_>, x: &[f32], out: &mut [f32]) {
    let width = x.len() / ROWS;
    let mut totals = [_mm512_setzero_ps(); ROWS];
    let mut groups = Groups::<D>::new(row);
    let mut x = x.as_ptr();
    // SAFETY: each row of activations has 128 elements for each group, in vectors of 16.
    unsafe {
        while let Some((codes, scales)) = groups.next() {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            let values = decoder.decode(codes);
            for (x_row, sums) in sums.iter_mut().enumerate() {
                let x = x.add(x_row * width);
                for (vector, &values) in values.iter().enumerate() {
                    let x = _mm512_loadu_ps(x.add(LANES * vector));
                    sums[vector % 2] = if vector < 2 {
                        _mm512_mul_ps(values, x)
                    } else {
                        _mm512_fmadd_ps(values, x, sums[vector % 2])
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
