//! The layer on GPUs, with kernels of this crate.

mod dense;
mod kernels;
mod launch;
mod stack;
mod tile;

use burn::backend::{
    TensorMetadata,
    ops::FloatTensorOps,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::FloatDType;
use burn_cubecl::{CubeBackend, kernel::into_contiguous};

use crate::{
    Crossover, Precision,
    linear::{Parts, QuantLayout, QuantOps, plain},
    table16::{self, Blocksize, Layout4bit, Quantize4bitOps, Scales},
};
pub(crate) use launch::Weight;
pub(crate) use stack::alignment;

/// Elements of a weight up to which one row is multiplied without tensor cores: filling their table takes longer. Measured on an H200:
/// 4.0 µs instead of 5.3 for 1024 x 4096, 9.5 instead of 8.4 for 4096 x 4096.
const SMALL: usize = 1 << 22;

impl QuantOps for CubeBackend {
    fn quant_forward(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (dtype, rows) = (x.dtype(), x.shape()[0]);
        let parts = Parts::<Self>::new(codes, scales, scale_codes, layout);
        let Some(weight) = layout.scheme.representation().on_gpu(&parts, layout.shape, dtype) else {
            return plain::forward::<Self>(x, parts, layout);
        };
        let is_small = rows == 1 && layout.shape[0] * layout.shape[1] <= SMALL;
        if let Some(plan) = weight.tile_plan(rows, dtype, precision).filter(|_| !is_small) {
            return weight.tile(into_contiguous(x), plan);
        }
        if rows <= Crossover::current().matvec && weight.has_whole_rows() {
            return weight.matvec(into_contiguous(x));
        }
        Self::float_matmul(x, Self::float_transpose(weight.dequantize(dtype)))
    }

    fn quant_backward(
        dy: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
    ) -> FloatTensor<Self> {
        let dtype = dy.dtype();
        let parts = Parts::<Self>::new(codes, scales, scale_codes, layout);
        match layout.scheme.representation().on_gpu(&parts, layout.shape, dtype) {
            None => plain::backward::<Self>(dy, parts, layout),
            Some(weight) => Self::float_matmul(dy, weight.dequantize(dtype)),
        }
    }
}

impl Quantize4bitOps for CubeBackend {
    fn quantize4bit_room(like: FloatTensor<Self>, layout: Layout4bit) -> (IntTensor<Self>, FloatTensor<Self>) {
        launch::room(&like, layout)
    }

    fn quantize4bit_window(
        values: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        at: usize,
        layout: Layout4bit,
    ) -> (IntTensor<Self>, FloatTensor<Self>) {
        launch::quantize(values, &packed, &absmax, at, layout);
        (packed, absmax)
    }

    fn dequantize4bit(
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
        dtype: FloatDType,
    ) -> FloatTensor<Self> {
        let scales = Scales::new(absmax, absmax_codes, nested);
        match Weight::new(&packed, &scales, layout, dtype.into()) {
            None => table16::dequantize::<Self>(packed, scales, layout, dtype),
            Some(weight) => weight.dequantize(dtype.into()),
        }
    }
}

/// Whether the device holds a block of that size in a cube.
pub(crate) fn quantizes(device: &cubecl::device::Device, blocksize: Blocksize) -> bool {
    launch::quantizes(&device.client(), blocksize.get())
}
