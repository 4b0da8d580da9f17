//! The layer on Burn's CPU backend, with this crate's kernels.

use burn::backend::{
    Flex,
    ops::FloatTensorOps,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{DType, FloatDType, TensorData};
use burn_flex::FlexTensor;

use super::{ops::Linear4bitOps, scales::Scales};
use crate::{Layout4bit, Matrix4bit, Precision, multiply};

/// Rows of the weight that are decoded at once for a gradient.
const BACKWARD_ROWS: usize = 256;

impl Linear4bitOps for Flex {
    fn linear4bit_forward(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let absmax = Scales::<Self>::new(absmax, absmax_codes, nested).decode(blocks(layout));
        let dtype = x.dtype();
        let x = to_f32(x).to_contiguous();
        let (packed, absmax) = (packed.to_contiguous(), absmax.to_contiguous());
        let weight = matrix(layout, &packed, &absmax);
        let y = multiply(&weight, slice(&x), precision).unwrap_or_else(|error| panic!("{error}"));
        let rows = y.len() / layout.shape[0];
        from_f32(FlexTensor::from_data(TensorData::new(y, [rows, layout.shape[0]])), dtype)
    }

    fn linear4bit_backward(
        dy: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
    ) -> FloatTensor<Self> {
        let absmax = Scales::<Self>::new(absmax, absmax_codes, nested).decode(blocks(layout));
        let dtype = dy.dtype();
        let dy = to_f32(dy);
        let (packed, absmax) = (packed.to_contiguous(), absmax.to_contiguous());
        let weight = matrix(layout, &packed, &absmax);
        let [out_features, in_features] = layout.shape;
        let mut dx: Option<FlexTensor> = None;
        for start in (0..out_features).step_by(BACKWARD_ROWS) {
            let rows = BACKWARD_ROWS.min(out_features - start);
            let mut tile = vec![0.0f32; rows * in_features];
            let decoded = weight.dequantize_rows(start..start + rows, &mut tile);
            decoded.unwrap_or_else(|error| panic!("{error}"));
            let tile = FlexTensor::from_data(TensorData::new(tile, [rows, in_features]));
            let part = Flex::float_matmul(dy.narrow(1, start, rows), tile);
            dx = Some(match dx {
                Some(dx) => Flex::float_add(dx, part),
                None => part,
            });
        }
        from_f32(dx.expect("shapes have no zero sizes"), dtype)
    }
}

fn blocks(layout: Layout4bit) -> usize {
    layout.blocksize.blocks(layout.shape[0] * layout.shape[1])
}

fn matrix<'a>(layout: Layout4bit, packed: &'a FlexTensor, absmax: &'a FlexTensor) -> Matrix4bit<'a> {
    let packed = packed.as_slice::<u8>().expect("contiguous");
    Matrix4bit::from_parts(layout, packed, slice(absmax)).unwrap_or_else(|error| panic!("{error}"))
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
