//! The quantised linear layer as a Burn module.

#[cfg(feature = "cube")]
mod cube;
mod dense;
mod flex;
mod ops;
mod plain;

use burn::backend::Flex;
use burn::module::{Module, Param, ParamId};
use burn::tensor::{Bytes, DType, Device, Int, Tensor, TensorData};
use std::sync::Arc;

pub use dense::{DenseOps, dense_product};
pub use ops::{Linear4bitOps, linear4bit};

use crate::{Absmax, Layout4bit, Precision, Quantized4bit, WeightDtype};

/// `y = x W^T + b` with a frozen 4-bit weight `W` of `[out, in]`.
///
/// Codes and scales are parameters that no optimiser changes; gradients flow to the activations and the bias. Double-quantised
/// scales are decoded to single precision when the layer is made.
///
/// ```
/// use automodel_quant::{Blocksize, Elements, Linear4bit, QuantType, Quantized4bit};
/// use burn::tensor::{Device, Tensor};
///
/// let weight = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [2, 64], Elements::F32(&[0.5; 128]))?;
/// let device = Device::flex();
/// let layer = Linear4bit::new(&weight, None, &device);
/// let y = layer.forward(Tensor::<3>::ones([1, 3, 64], &device));
/// assert_eq!(y.dims(), [1, 3, 2]);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Module, Debug)]
pub struct Linear4bit {
    /// Packed codes: U8 `[ceil(out * in / 2)]`, on GPUs padded with zeros to a multiple of four.
    pub weight: Param<Tensor<1, Int>>,
    /// Scales: float32 `[ceil(out * in / blocksize)]`.
    pub absmax: Param<Tensor<1>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// How the codes are read.
    #[module(skip)]
    pub layout: Layout4bit,
    /// The dtype of the weight before it was quantised.
    #[module(skip)]
    pub dtype: WeightDtype,
    /// How products of a few rows are computed.
    #[module(skip)]
    pub precision: Precision,
}

impl Linear4bit {
    /// A layer of a quantised weight, on a device; the codes are not copied if that is the CPU.
    pub fn new(weight: &Quantized4bit, bias: Option<Tensor<1>>, device: &Device) -> Self {
        let scales = weight.scales();
        let packed = if *device == Device::flex() { weight.packed().clone() } else { whole_words(weight.packed()) };
        let (codes, blocks) = (packed.len(), scales.len());
        let packed = Bytes::from_shared(packed, burn::tensor::AllocationProperty::Other);
        // With the dtype: a device's default would convert the bytes. For good: pools for short-lived tensors round weights up.
        let packed = TensorData::from_bytes(packed, [codes], DType::U8);
        let packed =
            device.memory_persistent_allocations(packed, |packed| Tensor::from_data(packed, (device, DType::U8)));
        let absmax = TensorData::new(scales, [blocks]);
        let absmax =
            device.memory_persistent_allocations(absmax, |absmax| Tensor::from_data(absmax, (device, DType::F32)));
        Self {
            weight: Param::initialized(ParamId::new(), packed),
            absmax: Param::initialized(ParamId::new(), absmax).set_require_grad(false),
            bias: bias.map(|bias| Param::initialized(ParamId::new(), bias)),
            layout: weight.layout(),
            dtype: weight.dtype(),
            precision: Precision::default(),
        }
    }

    /// The layer with another way to compute products of a few rows.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The weight on the host, with float32 scales; codes on the CPU are shared, not copied. `None` if the device fails, or if
    /// codes and scales were replaced by others that do not fit the layout.
    ///
    /// ```
    /// use automodel_quant::{Blocksize, Elements, Linear4bit, QuantType, Quantized4bit};
    /// use burn::tensor::Device;
    ///
    /// let weight = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [2, 64], Elements::F32(&[0.5; 128]))?;
    /// let layer = Linear4bit::new(&weight, None, &Device::flex());
    /// assert_eq!(layer.to_quantized(), Some(weight));
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn to_quantized(&self) -> Option<Quantized4bit> {
        let scales = self.absmax.val().cast(DType::F32).try_into_data().ok()?.try_into_vec().ok()?;
        let Layout4bit { quant_type, blocksize, shape } = self.layout;
        let mut packed = host_bytes(self.weight.val())?;
        packed.truncate((shape[0] * shape[1]).div_ceil(2));
        Quantized4bit::from_parts(quant_type, blocksize, shape, self.dtype, packed, Absmax::Plain(scales)).ok()
    }

    /// Activations `[.., in]` of float32, float16 or bfloat16 to `[.., out]` of the same dtype.
    ///
    /// # Panics
    /// As Burn does, if the last size of `x` is not `in` or the devices differ.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let [out_features, in_features] = self.layout.shape;
        let mut shape = x.dims();
        assert_eq!(
            shape[D - 1],
            in_features,
            "activations of shape {shape:?} for a 4-bit weight {:?}",
            self.layout.shape
        );
        let rows = shape[..D - 1].iter().product::<usize>();
        let x = x.reshape([rows, in_features]);
        let y = linear4bit(x, self.weight.val(), self.absmax.val(), self.layout, self.precision);
        let y = match &self.bias {
            Some(bias) => {
                let bias = bias.val().cast(y.dtype());
                y + bias.unsqueeze()
            }
            None => y,
        };
        shape[D - 1] = out_features;
        y.reshape(shape)
    }
}

/// The codes padded to words of 32 bits, which GPUs read.
fn whole_words(packed: &bytes::Bytes) -> bytes::Bytes {
    const WORD: usize = size_of::<u32>();
    if packed.len().is_multiple_of(WORD) {
        return packed.clone();
    }
    let mut padded = packed.to_vec();
    padded.resize(packed.len().next_multiple_of(WORD), 0);
    padded.into()
}

/// The bytes of a U8 tensor, shared with it on the CPU.
fn host_bytes(tensor: Tensor<1, Int>) -> Option<bytes::Bytes> {
    struct Shared(Arc<Bytes>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    if tensor.dtype() != DType::U8 {
        return None;
    }
    match tensor.clone().try_into_primitive::<Flex>() {
        Ok(tensor) => Some(bytes::Bytes::from_owner(Shared(tensor.to_contiguous().data_arc()))),
        Err(_) => tensor.try_into_data().ok()?.try_into_vec::<u8>().ok().map(Into::into),
    }
}
