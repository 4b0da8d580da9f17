//! The layer on Burn's CPU backend, with this crate's kernels.

use burn::backend::{
    Flex,
    ops::FloatTensorOps,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{DType, FloatDType, TensorData};
use burn_flex::FlexTensor;

use super::{
    ops::{QuantLayout, QuantOps},
    plain::Parts,
};
use crate::{
    Precision, multiply,
    product::{Matrix, decode_rows},
};

/// Rows of the weight that are decoded at once for a gradient.
const BACKWARD_ROWS: usize = 256;

impl QuantOps for Flex {
    fn quant_forward(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let parts = Parts::new(codes, scales, scale_codes, layout);
        layout.scheme.representation().forward(parts, layout.shape, x, precision)
    }

    fn quant_backward(
        dy: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
    ) -> FloatTensor<Self> {
        let parts = Parts::new(codes, scales, scale_codes, layout);
        layout.scheme.representation().backward(parts, layout.shape, dy)
    }
}

/// `x W^T` in the dtype of `x`.
pub(crate) fn forward<W: Matrix>(weight: &W, x: FlexTensor, precision: Precision) -> FlexTensor {
    let dtype = x.dtype();
    let x = to_f32(x).to_contiguous();
    let y = multiply(weight, slice(&x), precision).unwrap_or_else(|error| panic!("{error}"));
    let [out_features, _] = weight.shape();
    let rows = y.len() / out_features;
    from_f32(FlexTensor::from_data(TensorData::new(y, [rows, out_features])), dtype)
}

/// `dy W` in the dtype of `dy`.
pub(crate) fn backward<W: Matrix>(weight: &W, dy: FlexTensor) -> FlexTensor {
    let dtype = dy.dtype();
    let dy = to_f32(dy);
    let [out_features, in_features] = weight.shape();
    let mut dx: Option<FlexTensor> = None;
    for start in (0..out_features).step_by(BACKWARD_ROWS) {
        let rows = BACKWARD_ROWS.min(out_features - start);
        let mut tile = vec![0.0f32; rows * in_features];
        decode_rows(weight, start..start + rows, &mut tile);
        let tile = FlexTensor::from_data(TensorData::new(tile, [rows, in_features]));
        let part = Flex::float_matmul(dy.narrow(1, start, rows), tile);
        dx = Some(match dx {
            Some(dx) => Flex::float_add(dx, part),
            None => part,
        });
    }
    from_f32(dx.expect("shapes have no zero sizes"), dtype)
}

pub(crate) fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("contiguous")
}

pub(crate) fn to_f32(tensor: FlexTensor) -> FlexTensor {
    if tensor.dtype() == DType::F32 { tensor } else { Flex::float_cast(tensor, FloatDType::F32) }
}

pub(crate) fn from_f32(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if dtype == DType::F32 { tensor } else { Flex::float_cast(tensor, dtype.into()) }
}
