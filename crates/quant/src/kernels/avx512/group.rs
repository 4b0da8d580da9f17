//! What a product reads at a time: 64 bytes, a cache line, which hold 128 codes.
//!
//! A look-up reads the lowest bits of each lane of its index, so that shifting the whole line brings one nibble of each lane
//! after the other to where it is looked up: no instruction unpacks codes. Activations are brought into that order beforehand.

use std::arch::x86_64::*;

use crate::kernels::{Aligned, CHUNK, RowWeights};

/// Codes of a group.
pub(super) const GROUP: usize = 128;

/// Bytes of a group.
const BYTES: usize = GROUP / 2;

/// Chunks of a group.
const CHUNKS: usize = GROUP / CHUNK;

/// How far ahead packed weights are asked for, in bytes: the processor's own prediction ends with a page.
const AHEAD: usize = 4096;

/// The groups of a row of weights, each with a scale for each of its 16 lanes of eight codes.
pub(super) struct Groups<'a> {
    weights: &'a RowWeights<'a>,
    /// Whether each group has two blocks of 64, the usual size.
    pairs: bool,
    next: usize,
}

impl<'a> Groups<'a> {
    pub(super) fn new(weights: &'a RowWeights<'a>) -> Self {
        Self { weights, pairs: weights.has_whole_blocks(GROUP / 2), next: 0 }
    }

    /// The codes and the scales of the next group; of a part of a group, the missing codes are zero and scaled by zero.
    ///
    /// # Safety
    /// AVX-512 F.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn next(&mut self) -> Option<(__m512i, __m512)> {
        let start = self.next;
        let packed = self.weights.packed.get(start * BYTES..)?;
        if packed.is_empty() {
            return None;
        }
        self.next += 1;
        _mm_prefetch::<_MM_HINT_T0>(packed.as_ptr().wrapping_add(AHEAD).cast());
        let codes = if packed.len() >= BYTES {
            // SAFETY: 64 bytes are readable.
            unsafe { _mm512_loadu_si512(packed.as_ptr().cast()) }
        } else {
            // SAFETY: the mask has as many lanes of four bytes as are left.
            unsafe { _mm512_maskz_loadu_epi32((1 << (packed.len() / 4)) - 1, packed.as_ptr().cast()) }
        };
        let scales = if self.pairs && packed.len() >= BYTES {
            let absmax = &self.weights.absmax[2 * start..2 * start + 2];
            // SAFETY: there is a second scale.
            let second = unsafe { _mm_load_ss(absmax.as_ptr().add(1)) };
            _mm512_mask_broadcastss_ps(_mm512_set1_ps(absmax[0]), 0xff00, second)
        } else {
            self.scales(start * GROUP)
        };
        Some((codes, scales))
    }

    /// The scale of each chunk of the group whose first code has that place in the row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scales(&self, place: usize) -> __m512 {
        let RowWeights { absmax, head, blocksize, packed } = *self.weights;
        let scales: [f32; CHUNKS] = std::array::from_fn(|chunk| {
            let place = place + chunk * CHUNK;
            if place >= packed.len() * 2 {
                0.0
            } else if place < head {
                absmax[0]
            } else {
                absmax[1 + (place - head) / blocksize]
            }
        });
        // SAFETY: four scales are readable.
        let scales = _mm512_castps128_ps512(unsafe { _mm_loadu_ps(scales.as_ptr()) });
        _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), scales)
    }
}

/// The elements of each row, `columns` long, followed by zeros to a whole number of groups.
pub(super) fn padded(x: &[f32], columns: usize) -> Aligned<f32> {
    let width = columns.next_multiple_of(GROUP);
    let mut out = Aligned::<f32>::zeros(x.len() / columns * width);
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(columns)) {
        out[..columns].copy_from_slice(x);
    }
    out
}
