//! The layer on GPUs, with kernels of this crate.

mod kernels;
mod launch;

use burn::backend::{
    TensorMetadata,
    ops::FloatTensorOps,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::DType;
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
        if !has_kernels(layout, &packed, dtype) {
            return plain::forward::<Self>(x, packed, absmax, layout);
        }
        let weight = Weight::new(into_contiguous(packed), into_contiguous(absmax), layout);
        if x.shape()[0] <= MAX_FUSED_ROWS && layout.shape[1].is_multiple_of(kernels::CODES) {
            return weight.matvec(into_contiguous(x));
        }
        Self::float_matmul(x, Self::float_transpose(weight.dequantize(dtype)))
    }

    fn linear4bit_backward(
        dy: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        layout: Layout4bit,
    ) -> FloatTensor<Self> {
        let dtype = dy.dtype();
        if !has_kernels(layout, &packed, dtype) {
            return plain::backward::<Self>(dy, packed, absmax, layout);
        }
        let weight = Weight::new(into_contiguous(packed), into_contiguous(absmax), layout);
        Self::float_matmul(dy, weight.dequantize(dtype))
    }
}

/// Whether the codes are whole words, as `Linear4bit` pads them to be, and the activations of a float type that the kernels know.
fn has_kernels(layout: Layout4bit, packed: &IntTensor<CubeBackend>, dtype: DType) -> bool {
    let [out_features, in_features] = layout.shape;
    let elements = out_features.saturating_mul(in_features);
    let whole =
        packed.shape().num_elements() >= elements.div_ceil(kernels::CODES) * 4 && u32::try_from(elements).is_ok();
    whole && matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}
