//! The quantised linear layer as a Burn module.

mod crossover;
mod flex;
mod host;
mod ops;
pub(crate) mod plain;
mod read_as;

use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{Device, FloatDType, Int, Tensor};

pub use crossover::Crossover;
pub(crate) use flex::{backward, forward, from_f32, slice, to_f32};
pub(crate) use host::{DeviceParts, bytes, floats, host_bytes, whole_words};
pub(crate) use ops::float_dtype;
pub use ops::{QuantLayout, QuantOps, quant_product};
pub(crate) use plain::Parts;

use read_as::ReadAs;

#[cfg(feature = "cube")]
use crate::table16;
use crate::{DeviceQuantizer, DeviceWeight, Elements, Precision, QuantError, QuantWeight, Scheme, WeightDtype};

/// `y = x W^T + b` with a frozen quantised weight `W` of `[out, in]`.
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
    /// U8, on GPUs padded with zeros to a multiple of four. Of tables: `[ceil(out * in / 2)]`.
    pub codes: Param<Tensor<1, Int>>,
    /// float32. Of tables: `[ceil(out * in / blocksize)]`; where these are nested the offset, the 256 values that codes stand for, and a
    /// scale for each 256 codes.
    pub scales: Param<Tensor<1>>,
    /// Scales that are codes: U8, padded with zeros to a multiple of four. Of nested scales one for each block.
    pub scale_codes: Option<Param<Tensor<1, Int>>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// How the parts are read.
    #[module(skip)]
    layout: QuantLayout,
    /// The dtype of the weight before it was quantised.
    #[module(skip)]
    dtype: WeightDtype,
    /// How products of a few rows are computed.
    #[module(skip)]
    precision: Precision,
    /// The layout and the dtype as records have them.
    read_as: ReadAs,
}

impl QuantLinear {
    /// A layer of a quantised weight, on a device; the codes are not copied if that is the CPU.
    pub fn new(weight: impl Into<QuantWeight>, bias: Option<Tensor<1>>, device: &Device) -> Self {
        let weight = weight.into();
        let (shape, dtype) = (weight.shape(), weight.dtype());
        let (scheme, parts) = weight.scheme().representation().upload(weight, device);
        Self::of_parts(parts, QuantLayout { scheme, shape }, dtype, bias)
    }

    /// A layer of a weight that was quantised on its device.
    pub fn of_device(weight: DeviceWeight, bias: Option<Tensor<1>>) -> Self {
        let (scheme, shape, dtype) = (weight.scheme(), weight.shape(), weight.dtype());
        Self::of_parts(weight.into_device_parts(), QuantLayout { scheme, shape }, dtype, bias)
    }

    /// Quantises a layer of Burn's own, whose weight is `[in, out]`, on its device.
    ///
    /// # Errors
    /// As [`quantize`](Self::quantize).
    ///
    /// ```
    /// use automodel_quant::{QuantLinear, Scheme};
    /// use burn::nn::LinearConfig;
    /// use burn::tensor::Device;
    ///
    /// let linear = LinearConfig::new(64, 2).init(&Device::flex());
    /// let layer = QuantLinear::from_linear(&linear, Scheme::nf4())?;
    /// assert_eq!(layer.shape(), [2, 64]);
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn from_linear(linear: &Linear, scheme: impl Into<Scheme>) -> Result<Self, QuantError> {
        let bias = linear.bias.as_ref().map(|bias| bias.val());
        Self::quantize(linear.weight.val().transpose(), scheme, bias)
    }

    /// Quantises a dense weight on its device: `[out, in]`, as PyTorch and checkpoints have it. The weight of Burn's `Linear` is
    /// `[in, out]`, which cannot be told from a square one: for that there is [`from_linear`](Self::from_linear).
    ///
    /// # Errors
    /// [`QuantError::NonFinite`] or [`QuantError::NonFiniteBlock`] for elements without a code, [`QuantError::InvalidShape`],
    /// [`QuantError::MixedDtypes`] for a dtype that is not quantised, [`QuantError::Device`].
    ///
    /// ```
    /// use automodel_quant::{QuantLinear, Scheme};
    /// use burn::tensor::{Device, FloatDType, Tensor};
    ///
    /// let weight = Tensor::<2>::ones([2, 64], &Device::flex());
    /// let layer = QuantLinear::quantize(weight.clone(), Scheme::nf4(), None)?;
    /// assert!(layer.dequantize(FloatDType::F32).equal(weight).all().into_scalar::<bool>());
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn quantize(weight: Tensor<2>, scheme: impl Into<Scheme>, bias: Option<Tensor<1>>) -> Result<Self, QuantError> {
        let (scheme, shape, device) = (scheme.into(), weight.dims(), weight.device());
        let dtype = WeightDtype::of(weight.dtype()).unwrap_or(WeightDtype::Float32);
        if DeviceQuantizer::supports(&device, scheme) {
            let mut quantizer = DeviceQuantizer::new(scheme, shape, dtype, &device)?;
            quantizer.fill(weight.inner().reshape([shape[0] * shape[1]]))?;
            let weight = quantizer.finish()?;
            weight.check()?;
            return Ok(Self::of_device(weight, bias));
        }
        let data = weight.try_into_data().map_err(|error| QuantError::Device { reason: error.to_string() })?;
        let data = data.convert::<f32>();
        let values = data.as_slice::<f32>().map_err(|error| QuantError::Device { reason: format!("{error:?}") })?;
        let quantized = QuantWeight::quantize(scheme, shape, Elements::F32(values))?;
        Ok(Self::new(quantized.with_dtype(dtype), bias, &device))
    }

    fn of_parts(parts: DeviceParts, layout: QuantLayout, dtype: WeightDtype, bias: Option<Tensor<1>>) -> Self {
        Self {
            read_as: ReadAs::new(layout, dtype, &parts.codes.device()),
            codes: Param::initialized(ParamId::new(), parts.codes),
            scales: Param::initialized(ParamId::new(), parts.scales).set_require_grad(false),
            scale_codes: parts.scale_codes.map(|codes| Param::initialized(ParamId::new(), codes)),
            bias: bias.map(|bias| Param::initialized(ParamId::new(), bias)),
            layout,
            dtype,
            precision: Precision::default(),
        }
    }

    /// How the weight is represented on this device.
    pub fn scheme(&self) -> Scheme {
        self.layout.scheme
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.layout.shape
    }

    /// How the parts are read.
    pub fn layout(&self) -> QuantLayout {
        self.layout
    }

    /// The dtype of the weight before it was quantised.
    pub fn dtype(&self) -> WeightDtype {
        self.dtype
    }

    /// The layer with another way to compute products of a few rows.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The dense weight `[out, in]`, rounded to `dtype`.
    pub fn dequantize(&self, dtype: FloatDType) -> Tensor<2> {
        let DeviceParts { codes, scales, scale_codes } = self.device_parts();
        #[cfg(feature = "cube")]
        if let Some(scheme) = self.layout.scheme.table16().filter(|_| table16::decodes(&codes.device())) {
            return table16::dequantize_on_device(codes, scales, scale_codes, scheme.layout(self.layout.shape), dtype);
        }
        let (codes, scales) = (codes.into_dispatch(), scales.into_dispatch());
        let parts = Parts { codes, scales, scale_codes: scale_codes.map(Tensor::into_dispatch) };
        Tensor::from_dispatch(plain::dequantize::<burn::backend::Dispatch>(parts, self.layout, dtype))
    }

    /// The weight on the host; codes on the CPU are shared, not copied, and 8-bit scales, which the CPU decodes, are float32 there. `None`
    /// if the device fails, or if codes and scales were replaced by others that do not fit the layout.
    ///
    /// ```
    /// use automodel_quant::{Elements, QuantLinear, QuantWeight, Scheme};
    /// use burn::tensor::Device;
    ///
    /// let weight = QuantWeight::quantize(Scheme::nf4(), [2, 64], Elements::F32(&[0.5; 128]))?;
    /// let layer = QuantLinear::new(weight.clone(), None, &Device::flex());
    /// assert_eq!(layer.to_weight(), Some(weight));
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn to_weight(&self) -> Option<QuantWeight> {
        let QuantLayout { scheme, shape } = self.layout;
        scheme.representation().fetch(self.device_parts(), shape, self.dtype)
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
            "activations of shape {shape:?} for a quantised weight {:?}",
            self.layout.shape
        );
        let rows = shape[..D - 1].iter().product::<usize>();
        let x = x.reshape([rows, in_features]);
        let DeviceParts { codes, scales, scale_codes } = self.device_parts();
        let y = quant_product(x, codes, scales, scale_codes, self.layout, self.precision);
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

    fn device_parts(&self) -> DeviceParts {
        DeviceParts {
            codes: self.codes.val(),
            scales: self.scales.val(),
            scale_codes: self.scale_codes.as_ref().map(|codes| codes.val()),
        }
    }
}
