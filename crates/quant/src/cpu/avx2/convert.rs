//! Loads that convert to single precision.

use std::arch::x86_64::*;

/// # Safety
/// Eight values are readable; AVX2.
#[inline(always)]
pub(in crate::cpu) unsafe fn load_f32(values: *const f32) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_ps(values) }
}

/// # Safety
/// Eight values are readable; AVX2 and F16C.
#[inline(always)]
pub(in crate::cpu) unsafe fn load_f16(values: *const u16) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(values.cast())) }
}

/// # Safety
/// Eight values are readable; AVX2.
#[inline(always)]
pub(in crate::cpu) unsafe fn load_bf16(values: *const u16) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(values.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
    }
}
