//! The scales of a weight as tensors.

use burn::backend::{
    Backend,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{IntDType, Shape, Slice};

use crate::table16::NESTED_BLOCKSIZE;

/// Before nested scales: their offset and the table of their codes.
const HEAD: usize = 1 + 256;

/// The scales of a weight.
pub(super) struct Scales<B: Backend> {
    /// A scale for each block; of nested scales the offset, the 256 values of codes and a scale for each 256 codes.
    pub absmax: FloatTensor<B>,
    /// The codes of nested scales, one for each block, padded to words.
    pub codes: Option<IntTensor<B>>,
}

impl<B: Backend> Scales<B> {
    /// `codes` are looked at if the scales are nested.
    pub fn new(absmax: FloatTensor<B>, codes: IntTensor<B>, nested: bool) -> Self {
        Self { absmax, codes: nested.then_some(codes) }
    }

    /// A scale for each of so many blocks.
    pub fn decode(self, blocks: usize) -> FloatTensor<B> {
        let Some(codes) = self.codes else { return self.absmax };
        let groups = blocks.div_ceil(NESTED_BLOCKSIZE);
        let part = |from: usize, to: usize| B::float_slice(self.absmax.clone(), &[Slice::from(from..to)]);
        let codes = B::int_slice(B::int_cast(codes, IntDType::I32), &[Slice::from(0..blocks)]);
        let values = B::float_select(part(1, HEAD), 0, codes);
        let scales = B::float_reshape(part(HEAD, HEAD + groups), Shape::from([groups, 1]));
        let scales = B::float_expand(scales, Shape::from([groups, NESTED_BLOCKSIZE]));
        let scales = B::float_reshape(scales, Shape::from([groups * NESTED_BLOCKSIZE]));
        let scales = B::float_slice(scales, &[Slice::from(0..blocks)]);
        B::float_add(B::float_mul(values, scales), B::float_expand(part(0, 1), Shape::from([blocks])))
    }
}
