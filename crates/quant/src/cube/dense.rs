//! Products with dense weights on GPUs. Burn's product is for many rows: with few, it takes many times what reading the weight takes.

use burn::backend::{TensorMetadata, cubecl::dtype_to_elem_type, ops::FloatTensorOps, tensor::FloatTensor};
use burn::tensor::DType;
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

use super::kernels::{self, DensePlan};
use super::launch::{cube_count, empty, row_units, vector_size};
use crate::{Crossover, DenseOps};

/// Rows of activations that are multiplied with a weight that is read once.
const ROWS: usize = 8;
/// Rows of a weight that the same units compute.
const TOGETHER: usize = 4;

impl DenseOps for CubeBackend {
    fn dense_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.shape()[0] <= Crossover::current().dense && supports(&x, &weight) {
            return product(into_contiguous(x), weight);
        }
        let dtype = x.dtype();
        let weight = if weight.dtype() == dtype { weight } else { Self::float_cast(weight, dtype.into()) };
        Self::float_matmul(x, Self::float_transpose(weight))
    }
}

/// Whether the kernel takes these: floats that it computes with, rows of the weight in one piece each (some come with gaps between
/// them), no more elements than 32 bits count.
fn supports(x: &CubeTensor, weight: &CubeTensor) -> bool {
    let counts = |elements: usize| u32::try_from(elements).is_ok();
    let is_known = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let [rows, in_features, out_features] = [x.shape()[0], x.shape()[1], weight.shape()[0]];
    let [stride, step] = strides(weight);
    let all = [(rows, in_features), (out_features, stride), (rows, out_features)];
    let is_counted = all.into_iter().all(|(rows, length)| counts(rows.saturating_mul(length)));
    let has_elements = rows > 0 && in_features > 0 && out_features > 0;
    is_counted && has_elements && is_known(x.dtype()) && is_known(weight.dtype()) && step == 1 && stride >= in_features
}

/// From a row of a weight to the next, and within a row.
fn strides(weight: &CubeTensor) -> [usize; 2] {
    let strides = weight.meta.strides();
    [strides[0], strides[1]]
}

/// `x W^T` for contiguous rows of activations `[rows, in]` and a weight `[out, in]` of contiguous rows.
fn product(x: CubeTensor, weight: CubeTensor) -> CubeTensor {
    let client = x.client.clone();
    let (rows, [out_features, in_features]) = (x.shape()[0], [weight.shape()[0], weight.shape()[1]]);
    assert_eq!(x.shape()[1], in_features, "activations for a weight of {:?}", weight.shape());
    let out = empty(x.clone(), [rows, out_features], rows * out_features, x.dtype);
    let width = vector_size(&client, x.dtype).min(vector_size(&client, weight.dtype));
    let [stride, _] = strides(&weight);
    let divides = |size: usize| in_features.is_multiple_of(size) && stride.is_multiple_of(size);
    let width = [8, 4, 2, 1].into_iter().find(|size| *size <= width && divides(*size)).unwrap_or(1);
    let groups = out_features.div_ceil(TOGETHER);
    let units = row_units(&client, groups, in_features / width);
    for first_row in (0..rows).step_by(ROWS) {
        let plan = DensePlan { rows: ROWS.min(rows - first_row), together: TOGETHER, units };
        // SAFETY: shapes and strides say how many vectors of activations and weights there are, and no unit reads or writes beyond them.
        unsafe {
            kernels::few_rows::launch_unchecked(
                &client,
                cube_count(groups.div_ceil(units.rows())),
                CubeDim::new_1d(units.of_cube as u32),
                width,
                x.clone().into_buffer_arg(),
                BufferArg::from_raw_parts(weight.handle.clone(), (out_features - 1) * stride + in_features),
                out.clone().into_buffer_arg(),
                first_row as u32,
                in_features as u32,
                out_features as u32,
                stride as u32,
                plan,
                dtype_to_elem_type(x.dtype),
                dtype_to_elem_type(weight.dtype),
            );
        }
    }
    out
}
