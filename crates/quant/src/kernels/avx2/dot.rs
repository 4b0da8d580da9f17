//! One row of weights times a few rows of activations, in single precision.

use std::arch::x86_64::*;

use super::decode::planes4;
use crate::{
    QuantType,
    kernels::{Aligned, CHUNK, MAX_ROWS, RowWeights},
};

/// Where the elements of eight neighbours are after `decode`: even ones first.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Activations in the order in which `dot` decodes weights. Whole chunks only.
pub(in crate::kernels) fn reorder(x: &[f32]) -> Aligned<f32> {
    let mut out = Aligned::zeros(x.len());
    for (out, x) in out.as_chunks_mut::<8>().0.iter_mut().zip(x.as_chunks::<8>().0) {
        *out = ORDER.map(|place| x[place]);
    }
    out
}

/// # Safety
/// AVX2 and FMA; the lengths are those that `Isa::dot` checks.
#[target_feature(enable = "avx2,fma")]
pub(in crate::kernels) unsafe fn dot(quant_type: QuantType, weights: &RowWeights<'_>, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller's promise; the number of rows is that of `out`.
    unsafe {
        match out.len() {
            1 if weights.has_whole_blocks(USUAL) => out[0] = usual_blocks(quant_type, weights, x),
            1 => rows::<1, 4>(quant_type, weights, x, out),
            2 => rows::<2, 2>(quant_type, weights, x, out),
            3 => rows::<3, 1>(quant_type, weights, x, out),
            _ => rows::<MAX_ROWS, 1>(quant_type, weights, x, out),
        }
    }
}

/// The usual size of a block.
const USUAL: usize = 64;

/// How far ahead packed weights are asked for, in bytes: the processor's own prediction ends with a page.
pub(super) const AHEAD: usize = 1024;

/// One row of activations and whole blocks of the usual size: the loops of a block are unrolled. Look-ups set the pace, twelve
/// for 32 values, so that everything else has to be little.
#[target_feature(enable = "avx2,fma")]
unsafe fn usual_blocks(quant_type: QuantType, weights: &RowWeights<'_>, x: &[f32]) -> f32 {
    let decoder = Decoder::new(quant_type);
    let mut totals = [_mm256_setzero_ps(); 2];
    let mut x = x.as_ptr();
    let pairs = weights.packed.chunks(USUAL).zip(weights.absmax.chunks(2));
    for (packed, absmax) in pairs {
        _mm_prefetch::<_MM_HINT_T0>(packed.as_ptr().wrapping_add(AHEAD).cast());
        for ((packed, &scale), total) in packed.chunks_exact(USUAL / 2).zip(absmax).zip(&mut totals) {
            // SAFETY: a block has 32 bytes, and there are 64 activations for each so far.
            unsafe {
                let [a, b, c, d] = decoder.decode(packed.as_ptr());
                let mut sums = [_mm256_mul_ps(a, _mm256_loadu_ps(x)), _mm256_mul_ps(b, _mm256_loadu_ps(x.add(8)))];
                sums[0] = _mm256_fmadd_ps(c, _mm256_loadu_ps(x.add(16)), sums[0]);
                sums[1] = _mm256_fmadd_ps(d, _mm256_loadu_ps(x.add(24)), sums[1]);
                let [a, b, c, d] = decoder.decode(packed.as_ptr().add(CHUNK / 2));
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
unsafe fn rows<const ROWS: usize, const SUMS: usize>(
    quant_type: QuantType,
    weights: &RowWeights<'_>,
    x: &[f32],
    out: &mut [f32],
) {
    let decoder = Decoder::new(quant_type);
    let columns = weights.packed.len() * 2;
    let mut totals = [_mm256_setzero_ps(); ROWS];
    let mut x = x.as_ptr();
    for (blocks, absmax) in weights.spans() {
        for (packed, &scale) in blocks.zip(absmax) {
            let mut sums = [[_mm256_setzero_ps(); SUMS]; ROWS];
            for chunk in packed.chunks_exact(CHUNK / 2) {
                // SAFETY: a chunk has 16 bytes; `x` has `columns` elements for each row, 32 for each chunk so far.
                unsafe {
                    let values = decoder.decode(chunk.as_ptr());
                    for (row, sums) in sums.iter_mut().enumerate() {
                        for (eighth, &values) in values.iter().enumerate() {
                            let x = _mm256_loadu_ps(x.add(row * columns + 8 * eighth));
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

/// Looks up the four bytes of sixteen single-precision values.
struct Decoder {
    planes: [__m256i; 4],
    shifts: __m256i,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(quant_type: QuantType) -> Self {
        let table = quant_type.decode_table().as_ptr();
        // SAFETY: the table has 16 entries.
        let quarters = [0, 4, 8, 12].map(|at| unsafe { _mm_loadu_si128(table.add(at).cast()) });
        Self { planes: planes4(quarters), shifts: shifts() }
    }

    /// 32 values of 16 bytes: each vector has eight neighbours, even ones first.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn decode(&self, packed: *const u8) -> [__m256; 4] {
        // SAFETY: the caller's promise: 16 bytes are readable.
        let codes = unsafe { codes(packed, self.shifts) };
        let bytes = self.planes.map(|plane| _mm256_shuffle_epi8(plane, codes));
        let low = [_mm256_unpacklo_epi8(bytes[0], bytes[1]), _mm256_unpackhi_epi8(bytes[0], bytes[1])];
        let high = [_mm256_unpacklo_epi8(bytes[2], bytes[3]), _mm256_unpackhi_epi8(bytes[2], bytes[3])];
        [
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(low[0], high[0])),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(low[0], high[0])),
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(low[1], high[1])),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(low[1], high[1])),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shifts() -> __m256i {
    _mm256_setr_epi64x(4, 4, 0, 0)
}

/// 32 codes of 16 bytes: those with an even place in the lower half, the others in the upper half.
///
/// # Safety
/// AVX2; 16 bytes are readable.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn codes(packed: *const u8, shifts: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    let packed = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(packed.cast()) });
    _mm256_and_si256(_mm256_srlv_epi64(packed, shifts), _mm256_set1_epi8(15))
}

/// The sum of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_lanes(values: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
    let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
}
