//! Sixteen values looked up sixteen codes at a time, for products in single precision.

use std::arch::x86_64::*;

use super::{super::super::QuantType, load};
use crate::cpu::avx512::{Decode, VECTORS};

/// Looks up single-precision values.
#[derive(Clone, Copy)]
pub(crate) struct Decoder {
    table: __m512,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn new(quant_type: QuantType) -> Self {
        // SAFETY: the table has 16 entries.
        Self { table: unsafe { _mm512_loadu_ps(quant_type.decode_table().as_ptr()) } }
    }
}

impl Decode for Decoder {
    /// The elements of the lowest nibble of each lane, then those of the next. The first element of a byte is its higher nibble.
    fn element(place: usize) -> usize {
        place % 16 * VECTORS + ((place / 16) ^ 1)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn decode(&self, codes: &[u8]) -> [__m512; VECTORS] {
        shifted(load(codes)).map(|codes| _mm512_permutexvar_ps(codes, self.table))
    }
}

/// Each nibble of the lanes where a look-up reads it: in the lowest four bits, below others that it ignores.
#[inline]
#[target_feature(enable = "avx512f")]
fn shifted(codes: __m512i) -> [__m512i; VECTORS] {
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
