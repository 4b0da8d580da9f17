//! Sixteen values looked up byte by byte, for products in single precision.

use std::arch::x86_64::*;

use super::{super::super::QuantType, decode::planes4};
use crate::cpu::avx2::Decode;

/// Looks up the four bytes of sixteen single-precision values.
#[derive(Clone, Copy)]
pub(crate) struct Decoder {
    planes: [__m256i; 4],
    shifts: __m256i,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn new(quant_type: QuantType) -> Self {
        let table = quant_type.decode_table().as_ptr();
        // SAFETY: the table has 16 entries.
        let quarters = [0, 4, 8, 12].map(|at| unsafe { _mm_loadu_si128(table.add(at).cast()) });
        Self { planes: planes4(quarters), shifts: shifts() }
    }
}

impl Decode for Decoder {
    /// Even ones first.
    const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

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
