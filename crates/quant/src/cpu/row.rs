//! A row of codes with scales, and what a representation brings to the loops over it: how codes become values.

use super::CHUNK;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Turns codes into values, before they are scaled. The loops over chunks, scales and rows of activations are written once, for any
/// decoder.
pub(crate) trait Decode: Copy + Send + Sync {
    /// Bytes of the codes of a chunk.
    const CHUNK_BYTES: usize;

    /// The values of eight neighbours from a quarter of a chunk's bytes.
    fn eight(self, codes: &[u8]) -> [f32; 8];

    /// The decoder in AVX2.
    #[cfg(target_arch = "x86_64")]
    type Avx2: avx2::Decode;

    /// The decoder in AVX-512.
    #[cfg(target_arch = "x86_64")]
    type Avx512: avx512::Decode;

    /// # Safety
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx2(self) -> Self::Avx2;

    /// # Safety
    /// AVX-512 F and BW.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512(self) -> Self::Avx512;
}

/// One row of a weight, whose blocks need not begin where the row does.
pub(crate) struct Row<'a> {
    /// Whole chunks.
    pub codes: &'a [u8],
    /// The scales of the blocks that the row touches.
    pub scales: &'a [f32],
    /// Elements that belong to the first of them.
    pub head: usize,
    /// Elements that belong to each later one, the last perhaps fewer.
    pub blocksize: usize,
}

impl<'a> Row<'a> {
    /// Elements of the row.
    pub fn columns<D: Decode>(&self) -> usize {
        self.codes.len() / D::CHUNK_BYTES * CHUNK
    }

    /// Panics unless the row is whole chunks in whole blocks, with their scales.
    pub fn check<D: Decode>(&self) {
        assert!(self.codes.len().is_multiple_of(D::CHUNK_BYTES) && self.blocksize.is_multiple_of(CHUNK));
        assert!(self.head > 0 && self.head <= self.blocksize && self.head.is_multiple_of(CHUNK));
        let later = self.columns::<D>().saturating_sub(self.head).div_ceil(self.blocksize);
        assert_eq!(self.scales.len(), 1 + later);
    }

    /// Whether the row consists of whole blocks of that size.
    #[cfg(target_arch = "x86_64")]
    pub fn has_whole_blocks<D: Decode>(&self, blocksize: usize) -> bool {
        self.blocksize == blocksize && self.head == blocksize && self.columns::<D>().is_multiple_of(blocksize)
    }

    /// The end of a block that began in an earlier row, and the blocks after it, each with its scales.
    ///
    /// Two loops over blocks, one in the other, are much faster than one over a chained iterator.
    #[inline(always)]
    pub fn spans<D: Decode>(&self) -> [(std::slice::Chunks<'a, u8>, &'a [f32]); 2] {
        let bytes = |elements: usize| elements / CHUNK * D::CHUNK_BYTES;
        let head = if self.head == self.blocksize { 0 } else { bytes(self.head).min(self.codes.len()) };
        let (head, body) = self.codes.split_at(head);
        let (head_scales, scales) = self.scales.split_at(usize::from(!head.is_empty()));
        [(head.chunks(bytes(self.blocksize)), head_scales), (body.chunks(bytes(self.blocksize)), scales)]
    }
}
