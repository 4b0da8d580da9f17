//! The layer in operations that every backend has: decode the weight, multiply.

use burn::backend::{
    Backend,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::FloatDType;

use super::{QuantLayout, float_dtype};
use crate::repr;

/// The parts of a weight on a backend.
pub(crate) struct Parts<B: Backend> {
    pub codes: IntTensor<B>,
    pub scales: FloatTensor<B>,
    pub scale_codes: Option<IntTensor<B>>,
}

impl<B: Backend> Parts<B> {
    /// `scale_codes` are looked at if the scheme has such.
    pub fn new(codes: IntTensor<B>, scales: FloatTensor<B>, scale_codes: IntTensor<B>, layout: QuantLayout) -> Self {
        Self { codes, scales, scale_codes: layout.scheme.has_scale_codes().then_some(scale_codes) }
    }
}

/// `x W^T`, `[rows, in]` to `[rows, out]`.
pub(crate) fn forward<B: Backend>(x: FloatTensor<B>, parts: Parts<B>, layout: QuantLayout) -> FloatTensor<B> {
    let weight = dequantize::<B>(parts, layout, float_dtype::<B>(&x));
    B::float_matmul(x, B::float_transpose(weight))
}

/// `dy W`, `[rows, out]` to `[rows, in]`.
pub(crate) fn backward<B: Backend>(dy: FloatTensor<B>, parts: Parts<B>, layout: QuantLayout) -> FloatTensor<B> {
    let weight = dequantize::<B>(parts, layout, float_dtype::<B>(&dy));
    B::float_matmul(dy, weight)
}

/// The dense weight `[out, in]`, decoded in float32 and rounded to `dtype`.
pub(crate) fn dequantize<B: Backend>(parts: Parts<B>, layout: QuantLayout, dtype: FloatDType) -> FloatTensor<B> {
    repr::dequantize::<B>(layout.scheme, parts, layout.shape, dtype)
}

#[cfg(test)]
mod tests {
    use burn::backend::Dispatch;
    use burn::tensor::{DType, Device, Distribution, Int, Tensor};

    use crate::linear::Parts;
    use crate::{
        Elements, Precision, QuantLinear, quant_product,
        table16::{Blocksize, QuantType, Quantized4bit},
    };

    fn layer(quant_type: QuantType, shape: [usize; 2], device: &Device) -> QuantLinear {
        let weight: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i as f32 * 1.7).sin()).collect();
        let blocksize = Blocksize::new(32).unwrap();
        let weight = Quantized4bit::quantize(quant_type, blocksize, shape, Elements::F32(&weight)).unwrap();
        QuantLinear::new(&weight, None, device)
    }

    fn plain_forward(x: Tensor<2>, packed: Tensor<1, Int>, absmax: Tensor<1>, layer: &QuantLinear) -> Tensor<2> {
        let (x, packed, absmax) = (x.into_dispatch(), packed.into_dispatch(), absmax.into_dispatch());
        let parts = Parts { codes: packed, scales: absmax, scale_codes: None };
        Tensor::from_dispatch(super::forward::<Dispatch>(x, parts, layer.layout))
    }

    fn difference(a: Tensor<2>, b: Tensor<2>) -> f32 {
        (a.cast(DType::F32) - b.cast(DType::F32)).abs().max().into_scalar()
    }

    #[test]
    fn plain_operations_agree_with_the_kernels() {
        let device = Device::flex();
        for quant_type in [QuantType::Nf4, QuantType::Fp4] {
            // Whole blocks, a short last block, and an odd number of elements.
            for shape in [[8, 64], [6, 24], [5, 13]] {
                let layer = layer(quant_type, shape, &device);
                let x = Tensor::<2>::random([3, shape[1]], Distribution::Uniform(-1.0, 1.0), &device);
                for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F16, 2e-2)] {
                    let x = x.clone().cast(dtype);
                    let (packed, absmax) = (layer.codes.val(), layer.scales.val());
                    let kernels =
                        quant_product(x.clone(), packed.clone(), absmax.clone(), None, layer.layout, Precision::Exact);
                    let plain = plain_forward(x, packed, absmax, &layer);
                    assert_eq!(plain.dtype(), dtype);
                    assert!(difference(plain, kernels) < tolerance, "{quant_type:?} {shape:?} {dtype:?}");
                }
            }
        }
    }

    #[test]
    fn plain_operations_have_the_same_gradient() {
        let device = Device::flex().autodiff();
        let layer = layer(QuantType::Nf4, [10, 24], &device);
        let x = Tensor::<2>::random([3, 24], Distribution::Uniform(-1.0, 1.0), &device).require_grad();
        let seed = Tensor::<2>::random([3, 10], Distribution::Uniform(-1.0, 1.0), &device);
        let (packed, absmax) = (layer.codes.val(), layer.scales.val());

        let plain = plain_forward(x.clone(), packed.clone(), absmax.clone(), &layer);
        let plain = x.grad(&(plain * seed.clone()).sum().backward()).unwrap();
        let kernels = quant_product(x.clone(), packed.clone(), absmax.clone(), None, layer.layout, Precision::Exact);
        let kernels = x.grad(&(kernels * seed.clone()).sum().backward()).unwrap();
        assert!(difference(plain, kernels.clone()) < 1e-5);

        let (seed, packed, absmax) =
            (seed.inner().into_dispatch(), packed.into_dispatch(), absmax.inner().into_dispatch());
        let parts = Parts { codes: packed, scales: absmax, scale_codes: None };
        let backward = Tensor::from_dispatch(super::backward::<Dispatch>(seed, parts, layer.layout));
        assert!(difference(backward, kernels) < 1e-5);
    }
}
