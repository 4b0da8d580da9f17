//! The parts of a weight as tensors, decoded in operations that every backend has.

use burn::backend::{
    Backend, Flex, TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{DType, Device, FloatDType, Int, IntDType, Shape, Slice, Tensor, TensorData};

use super::{Absmax, Layout4bit, Matrix4bit, NESTED_BLOCKSIZE, NestedAbsmax, Quantized4bit, Table16, dynamic_map};
use crate::{
    Scheme, WeightDtype,
    linear::{DeviceParts, Parts, bytes, floats, host_bytes, slice, whole_words},
};

/// Before nested scales: their offset and the table of their codes.
const HEAD: usize = 1 + 256;

/// The scales of a weight.
pub(crate) struct Scales<B: Backend> {
    /// A scale for each block; of nested scales the offset, the 256 values of codes and a scale for each 256 codes.
    pub absmax: FloatTensor<B>,
    /// The codes of nested scales, one for each block, padded to words.
    pub codes: Option<IntTensor<B>>,
}

impl<B: Backend> Scales<B> {
    /// `codes` are looked at if the scales are nested.
    #[cfg(feature = "cube")]
    pub fn new(absmax: FloatTensor<B>, codes: IntTensor<B>, nested: bool) -> Self {
        Self { absmax, codes: nested.then_some(codes) }
    }

    /// The scales of `blocks` blocks in float32.
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

/// The dense weight `[out, in]` of a layer's parts.
pub(crate) fn dequantize_parts<B: Backend>(
    scheme: Table16,
    parts: Parts<B>,
    shape: [usize; 2],
    dtype: FloatDType,
) -> FloatTensor<B> {
    let scales = Scales { absmax: parts.scales, codes: parts.scale_codes };
    dequantize::<B>(parts.codes, scales, scheme.layout(shape), dtype)
}

/// The dense weight `[out, in]`: every code looked up and multiplied with its scale in float32, then rounded to `dtype`.
pub(crate) fn dequantize<B: Backend>(
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

/// Scales as kernels read them.
pub(crate) fn scales_on(scales: &Absmax, device: &Device) -> (Tensor<1>, Option<Tensor<1, Int>>) {
    match scales {
        Absmax::Plain(scales) => (floats(scales.clone(), device), None),
        Absmax::Nested(nested) => nested_tensors(nested, device),
    }
}

/// Nested scales as kernels read them: the offset, what codes stand for, the scales of scales; and the codes.
fn nested_tensors(nested: &NestedAbsmax, device: &Device) -> (Tensor<1>, Option<Tensor<1, Int>>) {
    let head = [nested.offset].into_iter().chain(*dynamic_map());
    let absmax = head.chain(nested.absmax.iter().copied()).collect();
    let codes = whole_words(&bytes::Bytes::copy_from_slice(&nested.codes));
    (floats(absmax, device), Some(bytes(codes, device)))
}

/// Calls `with` with the weight of a layer on Burn's CPU backend.
pub(crate) fn on_flex<R>(parts: Parts<Flex>, layout: Layout4bit, with: impl FnOnce(&Matrix4bit<'_>) -> R) -> R {
    let absmax = Scales::<Flex> { absmax: parts.scales, codes: parts.scale_codes }.decode(layout.blocks());
    let (packed, absmax) = (parts.codes.to_contiguous(), absmax.to_contiguous());
    let packed = packed.as_slice::<u8>().expect("contiguous");
    let weight = Matrix4bit::from_parts(layout, packed, slice(&absmax)).unwrap_or_else(|error| panic!("{error}"));
    with(&weight)
}

/// The parts of a weight on a device, and the scheme that they have there: the CPU gets scales in float32.
pub(crate) fn upload(weight: Quantized4bit, device: &Device) -> (Scheme, DeviceParts) {
    let is_cpu = *device == Device::flex();
    let scheme = weight.scheme();
    let codes = if is_cpu { weight.packed().clone() } else { whole_words(weight.packed()) };
    let codes = bytes(codes, device);
    if is_cpu {
        let scales = floats(weight.scales(), device);
        return (scheme.with_double_quant(false).into(), DeviceParts { codes, scales, scale_codes: None });
    }
    let (scales, scale_codes) = scales_on(weight.absmax(), device);
    (scheme.into(), DeviceParts { codes, scales, scale_codes })
}

/// The weight on the host; `None` if the device fails or the parts do not fit the layout.
pub(crate) fn fetch(parts: DeviceParts, layout: Layout4bit, dtype: WeightDtype) -> Option<Quantized4bit> {
    let scales: Vec<f32> = parts.scales.cast(DType::F32).try_into_data().ok()?.try_into_vec().ok()?;
    let Layout4bit { quant_type, blocksize, shape } = layout;
    let mut packed = host_bytes(parts.codes)?;
    packed.truncate((shape[0] * shape[1]).div_ceil(2));
    let absmax = match parts.scale_codes {
        None => Absmax::Plain(scales),
        Some(codes) => {
            let mut codes = host_bytes(codes)?.to_vec();
            codes.truncate(layout.blocks());
            let (offset, absmax) = (*scales.first()?, scales.get(1 + dynamic_map().len()..)?.to_vec());
            Absmax::Nested(NestedAbsmax { codes, absmax, offset })
        }
    };
    Quantized4bit::from_parts(quant_type, blocksize, shape, dtype, packed, absmax).ok()
}
