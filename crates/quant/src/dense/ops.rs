//! Products with dense weights that stay in the dtype of their file.

use burn::backend::{Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use burn_flex::FlexTensor;

use crate::linear::{float_dtype, from_f32, slice, to_f32};
use crate::{DenseMatrix, Elements};

/// Products of activations with weights of another float type. The default widens or narrows the weight with plain Burn
/// operations.
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub trait DenseOps: Backend {
    /// `x W^T`: `[rows, in]` times `[out, in]` to `[rows, out]`, in the dtype of `x`.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from([x[0], weight[0]]))]
    fn dense_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = Self::float_cast(weight, float_dtype::<Self>(&x));
        Self::float_matmul(x, Self::float_transpose(weight))
    }
}

impl DenseOps for Flex {
    fn dense_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let x = to_f32(x).to_contiguous();
        let weight = weight.to_contiguous();
        let [out_features, in_features] = weight.shape().dims::<2>();
        let product = |values| {
            let matrix = DenseMatrix::new(values, [out_features, in_features]);
            matrix.and_then(|matrix| matrix.multiply(slice(&x))).unwrap_or_else(|error| panic!("{error}"))
        };
        let y = match weight.dtype() {
            DType::BF16 => product(Elements::BF16(weight.as_slice().expect("contiguous"))),
            DType::F16 => product(Elements::F16(weight.as_slice().expect("contiguous"))),
            DType::F32 => product(Elements::F32(slice(&weight))),
            other => panic!("a weight of {other:?} has no product"),
        };
        let rows = y.len() / out_features;
        from_f32(FlexTensor::from_data(TensorData::new(y, Shape::from([rows, out_features]))), dtype)
    }
}

/// `x W^T` for activations `[rows, in]` and a weight `[out, in]`, which may differ in their float type; the result has that of
/// `x`.
///
/// On Burn's CPU backend products are computed in single precision straight from the stored weight: bfloat16 weights of a
/// mapped file are neither copied nor converted. On GPUs, with the features `cuda` and `wgpu`, few rows (see [`Crossover`](crate::Crossover)) take
/// a kernel that reads each weight once. Elsewhere, and where gradients are tracked, the weight is cast to the dtype of `x` first.
///
/// ```
/// use automodel_quant::dense_product;
/// use burn::tensor::{DType, Device, Tensor};
///
/// let device = Device::flex();
/// let weight = Tensor::<2>::ones([3, 64], &device).cast(DType::BF16);
/// let y = dense_product(Tensor::ones([1, 64], &device), weight);
/// assert_eq!((y.dims(), y.dtype()), ([1, 3], DType::F32));
/// ```
///
/// # Panics
/// As Burn does, if sizes or devices do not match.
pub fn dense_product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let computable = matches!(weight.dtype(), DType::F32 | DType::F16 | DType::BF16) && x.dtype() != DType::F64;
    if computable && has_kernels(&x.device()) && has_kernels(&weight.device()) {
        assert_eq!(x.dims()[1], weight.dims()[1], "activations and weight have rows of different lengths");
        let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
        return Tensor::from_dispatch(<Dispatch as DenseOps>::dense_product(x, weight));
    }
    let dtype = x.dtype();
    let weight = if weight.dtype() == dtype { weight } else { weight.cast(dtype) };
    x.matmul(weight.transpose())
}

/// Whether the device has kernels and does not track gradients: dense weights may be trained, and the kernels have no gradient.
fn has_kernels(device: &Device) -> bool {
    match device.as_dispatch() {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns, reason = "which backends there are depends on features")]
        _ => false,
    }
}
