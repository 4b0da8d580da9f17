//! The unit of a product's loop: 128 elements, eight vectors of sixteen.

use std::{arch::x86_64::*, marker::PhantomData};

use crate::cpu::{self, Aligned, CHUNK, Row};

/// Elements of a group.
pub(crate) const GROUP: usize = 128;

/// Chunks of a group.
const CHUNKS: usize = GROUP / CHUNK;

/// How far ahead codes are prefetched, in bytes: the processor's own prediction ends with a page.
const AHEAD: usize = 4096;

/// The groups of a row of weights, each with a scale for each of its 16 lanes: lane `i` has elements `8 * i` to `8 * i + 7`, unless all
/// elements of a group share a scale.
pub(crate) struct Groups<'a, D> {
    row: &'a Row<'a>,
    /// Whether each group has two blocks of 64, the usual size.
    pairs: bool,
    columns: usize,
    next: usize,
    decoder: PhantomData<D>,
}

impl<'a, D: cpu::Decode> Groups<'a, D> {
    /// Bytes of the codes of a group.
    const BYTES: usize = CHUNKS * D::CHUNK_BYTES;

    #[inline]
    pub fn new(row: &'a Row<'a>) -> Self {
        let pairs = row.has_whole_blocks::<D>(GROUP / 2);
        Self { row, pairs, columns: row.columns::<D>(), next: 0, decoder: PhantomData }
    }

    /// The codes and the scales of the next group; of a part of a group, which the last may be, the activations of the
    /// missing codes are zero.
    ///
    /// Without target features of its own, so that it is always compiled into a loop that has them: as a call it costs a tenth of a
    /// product.
    ///
    /// # Safety
    /// AVX-512 F.
    #[inline(always)]
    pub unsafe fn next(&mut self) -> Option<(&'a [u8], __m512)> {
        let start = self.next;
        let codes = self.row.codes.get(start * Self::BYTES..)?;
        if codes.is_empty() {
            return None;
        }
        self.next += 1;
        // SAFETY: a prefetch may go anywhere; the caller's promise; there is a second scale.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_add(AHEAD).cast());
            let scales = if self.pairs && codes.len() >= Self::BYTES {
                let scales = &self.row.scales[2 * start..2 * start + 2];
                let second = _mm_load_ss(scales.as_ptr().add(1));
                _mm512_mask_broadcastss_ps(_mm512_set1_ps(scales[0]), 0xff00, second)
            } else {
                self.scales(start * GROUP)
            };
            Some((codes, scales))
        }
    }

    /// The scale of each chunk of the group whose first code has that place in the row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scales(&self, place: usize) -> __m512 {
        let Row { scales: all, head, blocksize, .. } = *self.row;
        let scales: [f32; CHUNKS] = std::array::from_fn(|chunk| {
            // Missing codes have the scale of the last.
            let place = (place + chunk * CHUNK).min(self.columns - 1);
            if place < head { all[0] } else { all[1 + (place - head) / blocksize] }
        });
        // SAFETY: four scales are readable.
        let scales = _mm512_castps128_ps512(unsafe { _mm_loadu_ps(scales.as_ptr()) });
        _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), scales)
    }
}

/// The elements of each row, `columns` long, followed by zeros to a whole number of groups.
pub(crate) fn padded(x: &[f32], columns: usize) -> Aligned<f32> {
    let width = columns.next_multiple_of(GROUP);
    let mut out = Aligned::<f32>::zeros(x.len() / columns * width);
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(columns)) {
        out[..columns].copy_from_slice(x);
    }
    out
}
