//! One row of weights times a few rows of activations, in single precision, for any decoder.

use std::arch::x86_64::*;

use crate::cpu::{self, Aligned, CHUNK, MAX_ROWS, Row};

/// Turns the codes of a chunk into values.
pub(crate) trait Decode: Copy {
    /// Which of eight neighbours each lane of a vector has.
    const ORDER: [usize; 8];

    /// The values of a chunk: each vector has eight neighbours in [`Decode::ORDER`].
    ///
    /// # Safety
    /// AVX2; the bytes of a chunk are readable.
    unsafe fn decode(&self, codes: *const u8) -> [__m256; 4];
}

/// Activations in the order in which `dot` decodes weights. Whole chunks only.
pub(crate) fn reorder<D: Decode>(x: &[f32]) -> Aligned<f32> {
    let mut out = Aligned::zeros(x.len());
    for (out, x) in out.as_chunks_mut::<8>().0.iter_mut().zip(x.as_chunks::<8>().0) {
        *out = D::ORDER.map(|place| x[place]);
    }
    out
}

/// # Safety
/// AVX2 and FMA; the lengths are those that `Isa::dot` checks.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn dot<D: cpu::Decode>(decoder: D::Avx2, row: &Row<'_>, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows is that of `out`.
    unsafe {
        match out.len() {
            1 if row.has_whole_blocks::<D>(USUAL) => out[0] = usual_blocks::<D>(decoder, row, x),
            1 => rows::<D, 1, 4>(decoder, row, x, out),
            2 => rows::<D, 2, 2>(decoder, row, x, out),
            3 => rows::<D, 3, 1>(decoder, row, x, out),
            _ => rows::<D, MAX_ROWS, 1>(decoder, row, x, out),
        }
    }
}

/// The usual size of a block.
const USUAL: usize = 64;

/// How far ahead codes are prefetched, in bytes: the processor's own prediction ends with a page.
pub(crate) const AHEAD: usize = 1024;

/// One row of activations and whole blocks of the usual size: the loops of a block are unrolled. Decoding sets the pace, twelve look-ups
/// for 32 values of a table, so that everything else has to be little.
#[target_feature(enable = "avx2,fma")]
unsafe fn usual_blocks<D: cpu::Decode>(decoder: D::Avx2, row: &Row<'_>, x: &[f32]) -> f32 {
    let chunk = D::CHUNK_BYTES;
    let mut totals = [_mm256_setzero_ps(); 2];
    let mut x = x.as_ptr();
    let pairs = row.codes.chunks(4 * chunk).zip(row.scales.chunks(2));
    for (codes, scales) in pairs {
        _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_add(AHEAD).cast());
        for ((codes, &scale), total) in codes.chunks_exact(2 * chunk).zip(scales).zip(&mut totals) {
            // SAFETY: a block has two chunks, and there are 64 activations for each so far.
            unsafe {
                let [a, b, c, d] = decoder.decode(codes.as_ptr());
                let mut sums = [_mm256_mul_ps(a, _mm256_loadu_ps(x)), _mm256_mul_ps(b, _mm256_loadu_ps(x.add(8)))];
                sums[0] = _mm256_fmadd_ps(c, _mm256_loadu_ps(x.add(16)), sums[0]);
                sums[1] = _mm256_fmadd_ps(d, _mm256_loadu_ps(x.add(24)), sums[1]);
                let [a, b, c, d] = decoder.decode(codes.as_ptr().add(chunk));
                sums[0] = _mm256_fmadd_ps(a, _mm256_loadu_ps(x.add(32)), sums[0]);
                sums[1] = _mm256_fmadd_ps(b, _mm256_loadu_ps(x.add(40)), sums[1]);
                sums[0] = _mm256_fmadd_ps(c, _mm256_loadu_ps(x.add(48)), sums[0]);
                sums[1] = _mm256_fmadd_ps(d, _mm256_loadu_ps(x.add(56)), sums[1]);
                *total = _mm256_fmadd_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_set1_ps(scale), *total);
                x = x.add(USUAL);
            }
        }
    }
    add_lanes(_mm256_add_ps(totals[0], totals[1]))
}

/// `SUMS` independent sums for each of `ROWS` rows hide the latency of the additions.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<D: cpu::Decode, const ROWS: usize, const SUMS: usize>(
    decoder: D::Avx2,
    row: &Row<'_>,
    x: &[f32],
    out: &mut [f32],
) {
    let columns = row.columns::<D>();
    let mut totals = [_mm256_setzero_ps(); ROWS];
    let mut x = x.as_ptr();
    for (blocks, scales) in row.spans::<D>() {
        for (codes, &scale) in blocks.zip(scales) {
            let mut sums = [[_mm256_setzero_ps(); SUMS]; ROWS];
            for chunk in codes.chunks_exact(D::CHUNK_BYTES) {
                // SAFETY: a chunk has its bytes; `x` has `columns` elements for each row, 32 for each chunk so far.
                unsafe {
                    let values = decoder.decode(chunk.as_ptr());
                    for (x_row, sums) in sums.iter_mut().enumerate() {
                        for (eighth, &values) in values.iter().enumerate() {
                            let x = _mm256_loadu_ps(x.add(x_row * columns + 8 * eighth));
                            sums[eighth % SUMS] = _mm256_fmadd_ps(values, x, sums[eighth % SUMS]);
                        }
                    }
                    x = x.add(CHUNK);
                }
            }
            let scale = _mm256_set1_ps(scale);
            for (total, sums) in totals.iter_mut().zip(sums) {
                let sum = sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).unwrap_or_else(|| _mm256_setzero_ps());
                *total = _mm256_fmadd_ps(sum, scale, *total);
            }
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        *out = add_lanes(total);
    }
}

/// The sum of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn add_lanes(values: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
    let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
}
