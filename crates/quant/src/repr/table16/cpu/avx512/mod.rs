//! AVX-512 F and BW.
//!
//! A look-up reads the lowest bits of each lane of its index, so that shifting 64 bytes of codes, a cache line, brings one nibble of each
//! lane after the other to where it is looked up: no instruction unpacks codes. Activations are brought into that order beforehand.

mod dot;
mod fixed;

use std::arch::x86_64::*;

use crate::cpu::avx512::GROUP;

pub(crate) use dot::Decoder;
pub(super) use fixed::{dot_fixed, fixed_point};

/// Bytes of the codes of a group.
const BYTES: usize = GROUP / 2;

/// The codes of a group; those that are missing are zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(codes: &[u8]) -> __m512i {
    if codes.len() >= BYTES {
        // SAFETY: 64 bytes are readable.
        unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
    } else {
        // SAFETY: the mask has as many lanes of four bytes as are left.
        unsafe { _mm512_maskz_loadu_epi32((1 << (codes.len() / 4)) - 1, codes.as_ptr().cast()) }
    }
}
