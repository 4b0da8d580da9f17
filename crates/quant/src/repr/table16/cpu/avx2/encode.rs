//! Quantisation: four comparisons find the place of eight values among the fifteen bounds.

use std::arch::x86_64::*;

use super::super::{super::Encoder, portable::LEAST_SCALE};
use crate::cpu::{CHUNK, Float};

/// # Safety
/// AVX2 and F16C; `blocksize` is a multiple of 32, `values` has that many for each of `absmax`, `packed` half as many bytes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn quantize_blocks<T: Float>(
    encoder: &Encoder,
    blocksize: usize,
    values: &[T],
    packed: &mut [u8],
    absmax: &mut [f32],
) -> Result<(), usize> {
    let search = Search::new(encoder);
    let blocks = values.chunks_exact(blocksize).zip(packed.chunks_exact_mut(blocksize / 2));
    for (place, ((values, packed), absmax)) in blocks.zip(absmax).enumerate() {
        // SAFETY: a block is a whole number of chunks.
        *absmax = unsafe { magnitude(values) }.ok_or(place)?;
        let scale = _mm256_set1_ps(1.0 / absmax.max(LEAST_SCALE));
        for (values, packed) in values.chunks_exact(CHUNK).zip(packed.chunks_exact_mut(CHUNK / 2)) {
            // SAFETY: the slices have 32 elements and 16 bytes.
            unsafe {
                let at = |eighth: usize| search.find(_mm256_mul_ps(T::load8(values.as_ptr().add(8 * eighth)), scale));
                let bytes = search.pack([at(0), at(1), at(2), at(3)]);
                _mm_storeu_si128(packed.as_mut_ptr().cast(), bytes);
            }
        }
    }
    Ok(())
}

/// The greatest absolute value; `None` if an element is not finite, which has the greatest bits of all.
///
/// # Safety
/// AVX2 and F16C; `values` is a whole number of chunks.
#[target_feature(enable = "avx2,f16c")]
unsafe fn magnitude<T: Float>(values: &[T]) -> Option<f32> {
    let without_sign = _mm256_set1_epi32(0x7fff_ffff);
    let mut greatest = [_mm256_setzero_si256(); 4];
    for chunk in values.chunks_exact(CHUNK) {
        for (eighth, greatest) in greatest.iter_mut().enumerate() {
            // SAFETY: the chunk has 32 elements.
            let bits = _mm256_castps_si256(unsafe { T::load8(chunk.as_ptr().add(8 * eighth)) });
            *greatest = _mm256_max_epu32(*greatest, _mm256_and_si256(bits, without_sign));
        }
    }
    let pairs = [_mm256_max_epu32(greatest[0], greatest[1]), _mm256_max_epu32(greatest[2], greatest[3])];
    let all = _mm256_max_epu32(pairs[0], pairs[1]);
    let half = _mm_max_epu32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
    let quarter = _mm_max_epu32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
    let last = _mm_max_epu32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter));
    let bits = _mm_cvtsi128_si32(last) as u32;
    (bits < f32::INFINITY.to_bits()).then_some(f32::from_bits(bits))
}

/// Binary search with the bounds in registers. Places are kept negative, as comparisons make them: a true lane is -1.
struct Search {
    first: __m256,
    second: [__m256; 2],
    /// By minus the place among four, modulo eight.
    third: __m256,
    /// By minus the place among eight, modulo eight.
    fourth: __m256,
    /// The codes in ascending order of their values.
    order: __m256i,
}

impl Search {
    #[target_feature(enable = "avx2")]
    fn new(encoder: &Encoder) -> Self {
        let b = &encoder.bounds;
        // SAFETY: the order has 16 bytes.
        let order = unsafe { _mm_loadu_si128(encoder.order.as_ptr().cast()) };
        Self {
            first: _mm256_set1_ps(b[7]),
            second: [_mm256_set1_ps(b[3]), _mm256_set1_ps(b[11])],
            third: _mm256_setr_ps(b[1], 0.0, 0.0, 0.0, 0.0, b[13], b[9], b[5]),
            fourth: _mm256_setr_ps(b[0], b[14], b[12], b[10], b[8], b[6], b[4], b[2]),
            order: _mm256_broadcastsi128_si256(order),
        }
    }

    /// Minus the number of bounds below each value.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn find(&self, values: __m256) -> __m256i {
        let above = |bound| _mm256_cmp_ps::<_CMP_GT_OQ>(values, bound);
        let twice = |place| _mm256_add_epi32(place, place);
        let first = above(self.first);
        let second = above(_mm256_blendv_ps(self.second[0], self.second[1], first));
        let place = _mm256_add_epi32(twice(_mm256_castps_si256(first)), _mm256_castps_si256(second));
        let third = above(_mm256_permutevar8x32_ps(self.third, place));
        let place = _mm256_add_epi32(twice(place), _mm256_castps_si256(third));
        let fourth = above(_mm256_permutevar8x32_ps(self.fourth, place));
        _mm256_add_epi32(twice(place), _mm256_castps_si256(fourth))
    }

    /// Codes of 32 places, two to a byte, the first of a pair in the high half.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn pack(&self, places: [__m256i; 4]) -> __m128i {
        let words = [_mm256_packs_epi32(places[0], places[1]), _mm256_packs_epi32(places[2], places[3])];
        let bytes = _mm256_packs_epi16(words[0], words[1]);
        // Packing works within halves of 128 bits: bring the groups of four back into order.
        let ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let codes = _mm256_shuffle_epi8(self.order, _mm256_abs_epi8(ordered));
        let pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x0110));
        _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs))
    }
}
