//! The layer in operations that every backend has: decode the weight, multiply.

use burn::backend::{
    Backend, TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{FloatDType, IntDType, Shape, Slice, TensorData};

use super::{ops::float_dtype, scales::Scales};
use crate::Layout4bit;

/// `x W^T`, `[rows, in]` to `[rows, out]`.
pub(super) fn forward<B: Backend>(
    x: FloatTensor<B>,
    packed: IntTensor<B>,
    scales: Scales<B>,
    layout: Layout4bit,
) -> FloatTensor<B> {
    let weight = dequantize::<B>(packed, scales, layout, float_dtype::<B>(&x));
    B::float_matmul(x, B::float_transpose(weight))
}

/// `dy W`, `[rows, out]` to `[rows, in]`.
pub(super) fn backward<B: Backend>(
    dy: FloatTensor<B>,
    packed: IntTensor<B>,
    scales: Scales<B>,
    layout: Layout4bit,
) -> FloatTensor<B> {
    let weight = dequantize::<B>(packed, scales, layout, float_dtype::<B>(&dy));
    B::float_matmul(dy, weight)
}

/// The dense weight `[out, in]`: every code looked up and multiplied with its scale in float32, then rounded to `dtype`.
pub(super) fn dequantize<B: Backend>(
    packed: IntTensor<B>,
    scales: Scales<B>,
    layout: Layout4bit,
    dtype: FloatDType,
) -> FloatTensor<B> {
    let [rows, columns] = layout.shape;
    let (elements, blocksize) = (rows * columns, layout.blocksize.get());
    let blocks = layout.blocksize.blocks(elements);
    let bytes = elements.div_ceil(2);

    let packed = B::int_reshape(B::int_cast(packed, IntDType::I32), Shape::from([bytes, 1]));
    let first = B::bitwise_right_shift_scalar(packed.clone(), 4.into());
    let second = B::bitwise_and_scalar(packed, 15.into());
    let codes = B::int_reshape(B::int_cat(vec![first, second], 1), Shape::from([bytes * 2]));

    let absmax = scales.decode(blocks);
    let table = TensorData::new(layout.quant_type.decode_table().to_vec(), [16]);
    let values = B::float_select(B::float_from_data(table, &absmax.device()), 0, codes);
    let values = B::float_slice(values, &[Slice::from(0..elements)]);

    let scales = B::float_expand(B::float_reshape(absmax, Shape::from([blocks, 1])), Shape::from([blocks, blocksize]));
    let scales = B::float_reshape(scales, Shape::from([blocks * blocksize]));
    let scales = B::float_slice(scales, &[Slice::from(0..elements)]);

    let weight = B::float_reshape(B::float_mul(values, scales), Shape::from([rows, columns]));
    B::float_cast(weight, dtype)
}

#[cfg(test)]
mod tests {
    use burn::backend::Dispatch;
    use burn::tensor::{DType, Device, Distribution, Int, Tensor};

    use crate::linear::scales::Scales;
    use crate::{Blocksize, Elements, Linear4bit, Precision, QuantType, Quantized4bit, linear4bit};

    fn layer(quant_type: QuantType, shape: [usize; 2], device: &Device) -> Linear4bit {
        let weight: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i as f32 * 1.7).sin()).collect();
        let blocksize = Blocksize::new(32).unwrap();
        let weight = Quantized4bit::quantize(quant_type, blocksize, shape, Elements::F32(&weight)).unwrap();
        Linear4bit::new(&weight, None, device)
    }

    fn plain_forward(x: Tensor<2>, packed: Tensor<1, Int>, absmax: Tensor<1>, layer: &Linear4bit) -> Tensor<2> {
        let (x, packed, absmax) = (x.into_dispatch(), packed.into_dispatch(), absmax.into_dispatch());
        let scales = Scales { absmax, codes: None };
        Tensor::from_dispatch(super::forward::<Dispatch>(x, packed, scales, layer.layout))
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
                    let (packed, absmax) = (layer.weight.val(), layer.absmax.val());
                    let kernels =
                        linear4bit(x.clone(), packed.clone(), absmax.clone(), None, layer.layout, Precision::Exact);
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
        let (packed, absmax) = (layer.weight.val(), layer.absmax.val());

        let plain = plain_forward(x.clone(), packed.clone(), absmax.clone(), &layer);
        let plain = x.grad(&(plain * seed.clone()).sum().backward()).unwrap();
        let kernels = linear4bit(x.clone(), packed.clone(), absmax.clone(), None, layer.layout, Precision::Exact);
        let kernels = x.grad(&(kernels * seed.clone()).sum().backward()).unwrap();
        assert!(difference(plain, kernels.clone()) < 1e-5);

        let (seed, packed, absmax) =
            (seed.inner().into_dispatch(), packed.into_dispatch(), absmax.inner().into_dispatch());
        let scales = Scales { absmax, codes: None };
        let backward = Tensor::from_dispatch(super::backward::<Dispatch>(seed, packed, scales, layer.layout));
        assert!(difference(backward, kernels) < 1e-5);
    }
}
