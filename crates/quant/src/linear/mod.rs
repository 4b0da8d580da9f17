//! The quantised linear layer as a Burn module.

mod crossover;
#[cfg(feature = "cube")]
mod cube;
mod dense;
mod flex;
mod ops;
mod plain;
mod quantize;
mod read_as;
mod scales;
#[cfg(feature = "cube")]
mod stack;

use burn::backend::Flex;
use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{AllocationProperty, Bytes, DType, Device, FloatDType, Int, Tensor, TensorData};
use std::sync::Arc;

pub use crossover::Crossover;
pub use dense::{DenseOps, dense_product};
pub use ops::{Linear4bitOps, linear4bit};
pub use quantize::{Device4bit, DeviceQuantizer};
#[cfg(feature = "cube")]
pub use stack::WeightStack;

use read_as::ReadAs;

use crate::{
    DeviceWeight, Elements, Precision, QuantError, QuantWeight, Scheme, WeightDtype,
    table16::{
        Absmax, Blocksize, Layout4bit, NestedAbsmax, QuantType, Quantized4bit, Table16, check_length, dynamic_map,
    },
};

/// `y = x W^T + b` with a frozen 4-bit weight `W` of `[out, in]`.
///
/// Codes and scales are parameters that no optimiser changes; gradients flow to the activations and the bias. A record has the
/// layout too and is refused by a layer of another one. Double-quantised
/// scales stay so on GPUs, whose kernels decode them; for the CPU they are decoded to single precision when the layer is made.
///
/// ```
/// use automodel_quant::{Elements, QuantLinear, QuantWeight, Scheme};
/// use burn::tensor::{Device, Tensor};
///
/// let weight = QuantWeight::quantize(Scheme::nf4(), [2, 64], Elements::F32(&[0.5; 128]))?;
/// let device = Device::flex();
/// let layer = QuantLinear::new(weight, None, &device);
/// let y = layer.forward(Tensor::<3>::ones([1, 3, 64], &device));
/// assert_eq!(y.dims(), [1, 3, 2]);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Module, Debug)]
pub struct QuantLinear {
    /// Packed codes: U8 `[ceil(out * in / 2)]`, on GPUs padded with zeros to a multiple of four.
    pub weight: Param<Tensor<1, Int>>,
    /// Scales: float32 `[ceil(out * in / blocksize)]`. Of nested scales the offset, the 256 values that codes stand for, and a scale
    /// for each 256 codes.
    pub absmax: Param<Tensor<1>>,
    /// The codes of nested scales: U8, one for each block, padded with zeros to a multiple of four.
    pub absmax_codes: Option<Param<Tensor<1, Int>>>,
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
    /// The layout and the dtype as records have them.
    read_as: ReadAs,
}

impl QuantLinear {
    /// A layer of a quantised weight, on a device; the codes are not copied if that is the CPU.
    pub fn new(weight: impl Into<QuantWeight>, bias: Option<Tensor<1>>, device: &Device) -> Self {
        let weight = weight.into();
        match weight.scheme() {
            Scheme::Table16(scheme) => Self::of_table16(weight.into_typed(scheme), bias, device),
        }
    }

    fn of_table16(weight: Quantized4bit, bias: Option<Tensor<1>>, device: &Device) -> Self {
        let is_cpu = *device == Device::flex();
        let packed = if is_cpu { weight.packed().clone() } else { whole_words(weight.packed()) };
        let (absmax, codes) =
            if is_cpu { (floats(weight.scales(), device), None) } else { scales_on(weight.absmax(), device) };
        Self::of_parts(bytes(packed, device), absmax, codes, weight.layout(), weight.dtype(), bias)
    }

    /// A layer of a weight that was quantised on its device.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if its parts do not fit.
    pub fn of_device(weight: DeviceWeight, bias: Option<Tensor<1>>) -> Result<Self, QuantError> {
        let (plain, scales) = weight.into_parts();
        Self::on_device(plain, scales.as_ref(), bias)
    }

    /// How the weight is represented.
    pub fn scheme(&self) -> Scheme {
        let Layout4bit { quant_type, blocksize, .. } = self.layout;
        Table16 { quant_type, blocksize, double_quant: self.absmax_codes.is_some() }.into()
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.layout.shape
    }

    /// A layer of a weight that was quantised on its device; with `scales` in place of its own, one for each block.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if there are more or fewer scales than blocks.
    pub fn on_device(weight: Device4bit, scales: Option<&Absmax>, bias: Option<Tensor<1>>) -> Result<Self, QuantError> {
        let (layout, dtype) = (weight.layout(), weight.dtype());
        let (packed, own) = weight.into_parts();
        let (absmax, codes) = match scales {
            Some(scales) => {
                check_length("absmax", layout.blocks(), scales.blocks())?;
                scales_on(scales, &packed.device())
            }
            None => (own, None),
        };
        Ok(Self::of_parts(packed, absmax, codes, layout, dtype, bias))
    }

    /// Quantises a layer of Burn's own, whose weight is `[in, out]`, on its device.
    ///
    /// # Errors
    /// As [`quantize`](Self::quantize).
    ///
    /// ```
    /// use automodel_quant::{Blocksize, QuantLinear, QuantType};
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    ///
    /// let linear = LinearConfig::new(64, 2).init(&Device::flex());
    /// let layer = QuantLinear::from_linear(&linear, QuantType::Nf4, Blocksize::default())?;
    /// assert_eq!(layer.layout.shape, [2, 64]);
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn from_linear(linear: &Linear, quant_type: QuantType, blocksize: Blocksize) -> Result<Self, QuantError> {
        let bias = linear.bias.as_ref().map(|bias| bias.val());
        Self::quantize(linear.weight.val().transpose(), quant_type, blocksize, bias)
    }

    /// Quantises a dense weight on its device: `[out, in]`, as PyTorch and checkpoints have it. The weight of Burn's `Linear` is the
    /// other way round, which nothing can tell of a square one: for that there is [`from_linear`](Self::from_linear).
    ///
    /// # Errors
    /// [`QuantError::NonFinite`] or [`QuantError::NonFiniteBlock`] for elements without a code, [`QuantError::InvalidShape`],
    /// [`QuantError::MixedDtypes`] for a dtype that is not quantised, [`QuantError::Device`].
    ///
    /// ```
    /// use automodel_quant::{Blocksize, QuantLinear, QuantType};
    /// use burn::tensor::{Device, FloatDType, Tensor};
    ///
    /// let weight = Tensor::<2>::ones([2, 64], &Device::flex());
    /// let layer = QuantLinear::quantize(weight.clone(), QuantType::Nf4, Blocksize::default(), None)?;
    /// assert!(layer.dequantize(FloatDType::F32).equal(weight).all().into_scalar::<bool>());
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn quantize(
        weight: Tensor<2>,
        quant_type: QuantType,
        blocksize: Blocksize,
        bias: Option<Tensor<1>>,
    ) -> Result<Self, QuantError> {
        let (shape, device) = (weight.dims(), weight.device());
        let dtype = WeightDtype::of(weight.dtype());
        let found = dtype.unwrap_or(WeightDtype::Float32);
        if DeviceQuantizer::serves(&device, blocksize) {
            let mut quantizer = DeviceQuantizer::new(quant_type, blocksize, shape, found, &device)?;
            quantizer.fill(weight.inner().reshape([shape[0] * shape[1]]))?;
            let weight = quantizer.finish()?;
            weight.check()?;
            return Self::on_device(weight, None, bias);
        }
        let data = weight.try_into_data().map_err(|error| QuantError::Device { reason: error.to_string() })?;
        let data = data.convert::<f32>();
        let values = data.as_slice::<f32>().map_err(|error| QuantError::Device { reason: format!("{error:?}") })?;
        let quantized = Quantized4bit::quantize(quant_type, blocksize, shape, Elements::F32(values))?;
        let read_as = ReadAs::new(quantized.layout(), found, &device);
        Ok(Self { dtype: found, read_as, ..Self::new(&quantized, bias, &device) })
    }

    /// The dense weight `[out, in]`, rounded to `dtype`.
    pub fn dequantize(&self, dtype: FloatDType) -> Tensor<2> {
        let codes = self.absmax_codes.as_ref().map(|codes| codes.val());
        quantize::dequantize(self.weight.val(), self.absmax.val(), codes, self.layout, dtype)
    }

    fn of_parts(
        packed: Tensor<1, Int>,
        absmax: Tensor<1>,
        codes: Option<Tensor<1, Int>>,
        layout: Layout4bit,
        dtype: WeightDtype,
        bias: Option<Tensor<1>>,
    ) -> Self {
        Self {
            read_as: ReadAs::new(layout, dtype, &packed.device()),
            weight: Param::initialized(ParamId::new(), packed),
            absmax: Param::initialized(ParamId::new(), absmax).set_require_grad(false),
            absmax_codes: codes.map(|codes| Param::initialized(ParamId::new(), codes)),
            bias: bias.map(|bias| Param::initialized(ParamId::new(), bias)),
            layout,
            dtype,
            precision: Precision::default(),
        }
    }

    /// The layer with another way to compute products of a few rows.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The weight on the host; codes on the CPU are shared, not copied, and 8-bit scales, which the CPU decodes, are float32 there. `None` if
    /// the device fails, or if codes and scales were replaced by others that do not fit the layout.
    pub fn to_weight(&self) -> Option<QuantWeight> {
        self.to_quantized().map(Into::into)
    }

    /// The weight on the host, with float32 scales; codes on the CPU are shared, not copied. `None` if the device fails, or if
    /// codes and scales were replaced by others that do not fit the layout.
    ///
    /// ```
    /// use automodel_quant::{Elements, QuantLinear, QuantWeight, Scheme};
    /// use burn::tensor::Device;
    ///
    /// let weight = QuantWeight::quantize(Scheme::nf4(), [2, 64], Elements::F32(&[0.5; 128]))?;
    /// let layer = QuantLinear::new(weight.clone(), None, &Device::flex());
    /// assert_eq!(layer.to_quantized().map(QuantWeight::from), Some(weight));
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn to_quantized(&self) -> Option<Quantized4bit> {
        let scales: Vec<f32> = self.absmax.val().cast(DType::F32).try_into_data().ok()?.try_into_vec().ok()?;
        let Layout4bit { quant_type, blocksize, shape } = self.layout;
        let mut packed = host_bytes(self.weight.val())?;
        packed.truncate((shape[0] * shape[1]).div_ceil(2));
        let absmax = match &self.absmax_codes {
            None => Absmax::Plain(scales),
            Some(codes) => {
                let mut codes = host_bytes(codes.val())?.to_vec();
                codes.truncate(self.layout.blocks());
                let (offset, absmax) = (*scales.first()?, scales.get(1 + dynamic_map().len()..)?.to_vec());
                Absmax::Nested(NestedAbsmax { codes, absmax, offset })
            }
        };
        Quantized4bit::from_parts(quant_type, blocksize, shape, self.dtype, packed, absmax).ok()
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
        let codes = self.absmax_codes.as_ref().map(|codes| codes.val());
        let y = linear4bit(x, self.weight.val(), self.absmax.val(), codes, self.layout, self.precision);
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

/// Bytes on a device. With their dtype: a device's default would convert them. For good: pools for short-lived tensors round
/// weights up.
fn bytes(bytes: bytes::Bytes, device: &Device) -> Tensor<1, Int> {
    let len = bytes.len();
    let data = TensorData::from_bytes(Bytes::from_shared(bytes, AllocationProperty::Other), [len], DType::U8);
    device.memory_persistent_allocations(data, |data| Tensor::from_data(data, (device, DType::U8)))
}

/// Floats on a device, for good.
fn floats(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    let data = TensorData::new(values, [len]);
    device.memory_persistent_allocations(data, |data| Tensor::from_data(data, (device, DType::F32)))
}

/// Scales as kernels read them.
fn scales_on(scales: &Absmax, device: &Device) -> (Tensor<1>, Option<Tensor<1, Int>>) {
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
