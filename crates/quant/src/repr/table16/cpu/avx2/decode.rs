//! Dequantisation: the sixteen possible results of a block are computed once, then looked up byte by byte.

use std::arch::x86_64::*;

use crate::cpu::CHUNK;

/// # Safety
/// AVX2; 16 bytes per chunk are readable and 32 values writable.
#[target_feature(enable = "avx2")]
pub(in super::super) unsafe fn decode_f32(
    table: &[f32; 16],
    scale: f32,
    packed: *const u8,
    chunks: usize,
    out: *mut f32,
) {
    let scaled = scaled(table, scale);
    let quarters = [
        _mm256_castps256_ps128(scaled[0]),
        _mm256_extractf128_ps::<1>(scaled[0]),
        _mm256_castps256_ps128(scaled[1]),
        _mm256_extractf128_ps::<1>(scaled[1]),
    ];
    let planes = planes4(quarters.map(|quarter| _mm_castps_si128(quarter)));
    for chunk in 0..chunks {
        // SAFETY: the caller's promise covers every chunk.
        unsafe {
            let codes = codes_in_order(packed.add(chunk * CHUNK / 2));
            let bytes = planes.map(|plane| _mm256_shuffle_epi8(plane, codes));
            let low = [_mm256_unpacklo_epi8(bytes[0], bytes[1]), _mm256_unpackhi_epi8(bytes[0], bytes[1])];
            let high = [_mm256_unpacklo_epi8(bytes[2], bytes[3]), _mm256_unpackhi_epi8(bytes[2], bytes[3])];
            let out = out.add(chunk * CHUNK);
            for eighth in 0..2 {
                store_halves(_mm256_unpacklo_epi16(low[eighth], high[eighth]), out.add(8 * eighth).cast(), 64);
                store_halves(_mm256_unpackhi_epi16(low[eighth], high[eighth]), out.add(8 * eighth + 4).cast(), 64);
            }
        }
    }
}

/// # Safety
/// As for `decode_f32`, and F16C.
#[target_feature(enable = "avx2,f16c")]
pub(in super::super) unsafe fn decode_f16(
    table: &[f32; 16],
    scale: f32,
    packed: *const u8,
    chunks: usize,
    out: *mut u16,
) {
    let rounded = scaled(table, scale).map(|values| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values));
    // SAFETY: the caller's promise.
    unsafe { decode_halves(rounded, packed, chunks, out) }
}

/// # Safety
/// As for `decode_f32`.
#[target_feature(enable = "avx2")]
pub(in super::super) unsafe fn decode_bf16(
    table: &[f32; 16],
    scale: f32,
    packed: *const u8,
    chunks: usize,
    out: *mut u16,
) {
    let rounded = scaled(table, scale).map(|values| {
        // To nearest, ties to even: add half of the last place, less one unit if the result would be odd at a tie.
        let bits = _mm256_castps_si256(values);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let upper = _mm256_srli_epi32::<16>(sum);
        _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256::<1>(upper))
    });
    // SAFETY: the caller's promise.
    unsafe { decode_halves(rounded, packed, chunks, out) }
}

/// # Safety
/// AVX2; 16 bytes per chunk are readable and 32 values writable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn decode_halves(rounded: [__m128i; 2], packed: *const u8, chunks: usize, out: *mut u16) {
    let byte = _mm_set1_epi16(0xff);
    let low = _mm_packus_epi16(_mm_and_si128(rounded[0], byte), _mm_and_si128(rounded[1], byte));
    let high = _mm_packus_epi16(_mm_srli_epi16::<8>(rounded[0]), _mm_srli_epi16::<8>(rounded[1]));
    let (low, high) = (_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high));
    for chunk in 0..chunks {
        // SAFETY: the caller's promise covers every chunk.
        unsafe {
            let codes = codes_in_order(packed.add(chunk * CHUNK / 2));
            let (low, high) = (_mm256_shuffle_epi8(low, codes), _mm256_shuffle_epi8(high, codes));
            let out = out.add(chunk * CHUNK);
            store_halves(_mm256_unpacklo_epi8(low, high), out.cast(), 32);
            store_halves(_mm256_unpackhi_epi8(low, high), out.add(8).cast(), 32);
        }
    }
}

/// 32 codes of 16 bytes in their order, a byte each.
///
/// # Safety
/// AVX2; 16 bytes are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn codes_in_order(packed: *const u8) -> __m256i {
    let twice = _mm256_setr_epi8(
        0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15,
    );
    // SAFETY: the caller's promise.
    let packed = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(packed.cast()) });
    let bytes = _mm256_shuffle_epi8(packed, twice);
    let first = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi16(0x000f));
    _mm256_or_si256(first, _mm256_and_si256(bytes, _mm256_set1_epi16(0x0f00)))
}

/// Stores the lower half at `out` and the upper half `distance` bytes on.
///
/// # Safety
/// AVX2; both places are writable for 16 bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_halves(values: __m256i, out: *mut u8, distance: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(values));
        _mm_storeu_si128(out.add(distance).cast(), _mm256_extracti128_si256::<1>(values));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn scaled(table: &[f32; 16], scale: f32) -> [__m256; 2] {
    let scale = _mm256_set1_ps(scale);
    // SAFETY: the table has 16 entries.
    unsafe {
        [
            _mm256_mul_ps(_mm256_loadu_ps(table.as_ptr()), scale),
            _mm256_mul_ps(_mm256_loadu_ps(table.as_ptr().add(8)), scale),
        ]
    }
}

/// Byte `i` of sixteen 32-bit entries in plane `i`, in both halves.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn planes4(entries: [__m128i; 4]) -> [__m256i; 4] {
    let by_byte = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let e = entries.map(|four| _mm_shuffle_epi8(four, by_byte));
    let low = [_mm_unpacklo_epi32(e[0], e[1]), _mm_unpacklo_epi32(e[2], e[3])];
    let high = [_mm_unpackhi_epi32(e[0], e[1]), _mm_unpackhi_epi32(e[2], e[3])];
    [
        _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(low[0], low[1])),
        _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(low[0], low[1])),
        _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(high[0], high[1])),
        _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(high[0], high[1])),
    ]
}
