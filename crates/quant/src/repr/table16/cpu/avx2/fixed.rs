//! One row of weights times a few rows of activations, both as 16-bit integers.
//!
//! A table of 16-bit values needs half the look-ups of one in single precision, and one instruction multiplies and adds
//! sixteen pairs, so that memory rather than arithmetic sets the pace. The activations of a chunk share a scale.

use std::arch::x86_64::*;

use super::{
    super::{
        super::QuantType,
        FIXED_ROWS, Table,
        fixed::{FixedPoint, SHARED, integers, table, unit},
    },
    dot::{codes, shifts},
};
use crate::cpu::{
    Aligned, CHUNK, Row,
    avx2::{AHEAD, add_lanes},
};

/// Activations in the order in which `dot_fixed` decodes weights: of each sixteen the even places, then the odd ones. Whole chunks
/// only.
///
/// # Safety
/// AVX2.
#[target_feature(enable = "avx2")]
pub(in super::super) unsafe fn fixed_point(x: &[f32]) -> FixedPoint {
    let mut values = Aligned::zeros(x.len());
    let mut scales = Aligned::zeros(x.len() / SHARED);
    let (x, _) = x.as_chunks::<SHARED>();
    for ((x, values), scale) in x.iter().zip(values.as_chunks_mut::<SHARED>().0).zip(&mut *scales) {
        let (integers, shared) = integers(x);
        *scale = shared;
        let half = |place| place / 16 * 16;
        *values = std::array::from_fn(|place| integers[half(place) + place % 8 * 2 + place % 16 / 8]);
    }
    FixedPoint { values, scales }
}

/// # Safety
/// AVX2 and FMA; the lengths are those that `Isa::dot` checks, with at most two rows.
#[target_feature(enable = "avx2,fma")]
pub(in super::super) unsafe fn dot_fixed(quant_type: QuantType, row: &Row<'_>, x: &FixedPoint, out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows is that of `out`.
    unsafe {
        match out.len() {
            1 => rows::<1>(quant_type, row, x, out),
            _ => rows::<FIXED_ROWS>(quant_type, row, x, out),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const ROWS: usize>(quant_type: QuantType, row: &Row<'_>, x: &FixedPoint, out: &mut [f32]) {
    let planes = planes2(quant_type);
    let shifts = shifts();
    let columns = row.columns::<Table>();
    let mut totals = [_mm256_setzero_ps(); ROWS];
    let (mut values, mut scales) = (x.values.as_ptr(), x.scales.as_ptr());
    for (blocks, absmax) in row.spans::<Table>() {
        for (packed, &absmax) in blocks.zip(absmax) {
            _mm_prefetch::<_MM_HINT_T0>(packed.as_ptr().wrapping_add(AHEAD).cast());
            let absmax = _mm_set_ss(absmax);
            for chunk in packed.chunks_exact(CHUNK / 2) {
                // SAFETY: a chunk has 16 bytes; each row has `columns` integers, 32 for each chunk so far, and a scale for
                // each 32.
                unsafe {
                    let codes = codes(chunk.as_ptr(), shifts);
                    let bytes = planes.map(|plane| _mm256_shuffle_epi8(plane, codes));
                    let first = _mm256_unpacklo_epi8(bytes[0], bytes[1]);
                    let second = _mm256_unpackhi_epi8(bytes[0], bytes[1]);
                    for (x_row, total) in totals.iter_mut().enumerate() {
                        let x: *const __m256i = values.add(x_row * columns).cast();
                        let scale = _mm_mul_ss(_mm_load_ss(scales.add(x_row * (columns / SHARED))), absmax);
                        let products = _mm256_add_epi32(
                            _mm256_madd_epi16(first, _mm256_loadu_si256(x)),
                            _mm256_madd_epi16(second, _mm256_loadu_si256(x.add(1))),
                        );
                        *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), _mm256_broadcastss_ps(scale), *total);
                    }
                    values = values.add(CHUNK);
                    scales = scales.add(1);
                }
            }
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        *out = add_lanes(total) / unit(quant_type);
    }
}

/// Low and high bytes of the table as integers, in both halves.
#[inline]
#[target_feature(enable = "avx2")]
fn planes2(quant_type: QuantType) -> [__m256i; 2] {
    let planes = match quant_type {
        QuantType::Nf4 => const { &byte_planes(QuantType::Nf4) },
        QuantType::Fp4 => const { &byte_planes(QuantType::Fp4) },
    };
    planes.each_ref().map(|plane| {
        // SAFETY: the plane has 16 bytes.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(plane.as_ptr().cast()) })
    })
}

/// Low and high bytes of the table.
const fn byte_planes(quant_type: QuantType) -> [[u8; 16]; 2] {
    let table = table(quant_type);
    let mut planes = [[0; 16]; 2];
    let mut code = 0;
    while code < 16 {
        let bytes = table[code].to_le_bytes();
        (planes[0][code], planes[1][code]) = (bytes[0], bytes[1]);
        code += 1;
    }
    planes
}
