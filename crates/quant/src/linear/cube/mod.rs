//! The layer on GPUs, with kernels of this crate.

mod kernels;
mod launch;

use burn::backend::{
    TensorMetadata,
    ops::FloatTensorOps,
    tensor::{FloatTensor, IntTensor},
};
use burn_cubecl::{CubeBackend, kernel::into_contiguous};

use super::{ops::Linear4bitOps, plain};
use crate::{Layout4bit, Precision};
use launch::Weight;

/// Most rows of activations that the fused product takes: more of them decode the weight once, for Burn's product. Not measured
/// yet.
const MAX_FUSED_ROWS: usize = 8;

impl Linear4bitOps for CubeBackend {
    fn linear4bit_forward(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        layout: Layout4bit,
        _precision: Precision,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        match Weight::new(&packed, &absmax, layout, dtype) {
            None => plain::forward::<Self>(x, packed, absmax, layout),
            Some(weight) if x.shape()[0] <= MAX_FUSED_ROWS && weight.has_whole_rows() => {
                weight.matvec(into_contiguous(x))
            }
            Some(weight) => Self::float_matmul(x, Self::float_transpose(weight.dequantize(dtype))),
        }
    }

    fn linear4bit_backward(
        dy: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        layout: Layout4bit,
    ) -> FloatTensor<Self> {
        let dtype = dy.dtype();
        match Weight::new(&packed, &absmax, layout, dtype) {
            None => plain::backward::<Self>(dy, packed, absmax, layout),
            Some(weight) => Self::float_matmul(dy, weight.dequantize(dtype)),
        }
    }
}
