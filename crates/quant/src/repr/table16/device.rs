//! Quantisation on the device that will multiply.

#[cfg(feature = "cube")]
use burn::backend::{
    Backend, Dispatch, DispatchDevice, backend_extension,
    fusion::custom::TensorSpec,
    tensor::{FloatTensor, IntTensor},
};
#[cfg(feature = "cube")]
use burn::tensor::{DType, FloatDType};
use burn::tensor::{Device, Int, Tensor};

use super::{Absmax, Blocksize, Layout4bit, QuantType, Quantized4bit, elements_of};
use crate::{QuantError, WeightDtype};

/// Quantisation and its inverse by kernels.
#[cfg(feature = "cube")]
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait Quantize4bitOps: Backend {
    /// Room for codes and scales on the device of `like`. It is not initialised.
    #[fusion(meta = |_like, layout| (spec(layout.padded_bytes(), DType::U8), spec(layout.blocks(), DType::F32)))]
    fn quantize4bit_room(like: FloatTensor<Self>, layout: Layout4bit) -> (IntTensor<Self>, FloatTensor<Self>);

    /// Writes the codes and scales of values `[n]` that begin at the element `at`, the first of a block, and returns the same
    /// memory. The scale of a block with an element that is not finite is negative.
    #[fusion(meta = |_values, packed, absmax, _at, _layout| (packed.clone(), absmax.clone()))]
    fn quantize4bit_window(
        values: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        at: usize,
        layout: Layout4bit,
    ) -> (IntTensor<Self>, FloatTensor<Self>);

    /// The dense weight `[out, in]`.
    #[fusion(meta = |_packed, _absmax, _codes, layout, _nested, dtype| TensorSpec::new(layout.shape.into(), (*dtype).into()))]
    fn dequantize4bit(
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
        dtype: FloatDType,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "cube")]
fn spec(elements: usize, dtype: DType) -> TensorSpec {
    TensorSpec::new([elements].into(), dtype)
}

/// A 4-bit weight whose codes and scales are on a GPU and never were on the host.
#[derive(Clone, Debug)]
pub struct Device4bit {
    packed: Tensor<1, Int>,
    absmax: Tensor<1>,
    layout: Layout4bit,
    dtype: WeightDtype,
}

/// Quantises a weight `[out, in]` on a GPU, window by window: the host uploads the values as they are, the device has their
/// codes before the next window arrives. Codes and scales are those of [`crate::Quantizer`], bit for bit.
///
/// ```
/// use automodel_quant::table16::{Blocksize, DeviceQuantizer};
/// use burn::tensor::Device;
///
/// // Processors quantise where the values are.
/// assert!(!DeviceQuantizer::supports(&Device::flex(), Blocksize::default()));
/// ```
#[derive(Clone, Debug)]
pub struct DeviceQuantizer {
    layout: Layout4bit,
    dtype: WeightDtype,
    device: Device,
    elements: usize,
    filled: usize,
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "no device quantises"))]
    parts: Option<(Tensor<1, Int>, Tensor<1>)>,
}

impl DeviceQuantizer {
    /// Whether a device has kernels that quantise: GPUs do, in builds with their feature.
    pub fn supports(device: &Device, blocksize: Blocksize) -> bool {
        match device.clone().inner().as_dispatch() {
            #[cfg(feature = "cube")]
            DispatchDevice::Cube(device) => crate::cube::quantizes(device, blocksize),
            _ => {
                let _ = blocksize;
                false
            }
        }
    }

    /// Begins a weight.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`], [`QuantError::NoDeviceKernels`] where the device has none, [`QuantError::DeviceDtype`] where it does
    /// not compute in `dtype`.
    pub fn new(
        quant_type: QuantType,
        blocksize: Blocksize,
        shape: [usize; 2],
        dtype: WeightDtype,
        device: &Device,
    ) -> Result<Self, QuantError> {
        let elements = elements_of(shape)?;
        if !Self::supports(device, blocksize) {
            return Err(QuantError::NoDeviceKernels { device: format!("{device:?}") });
        }
        if !device.supports_dtype(dtype.float()) {
            return Err(QuantError::DeviceDtype { device: format!("{device:?}"), dtype });
        }
        let (layout, device) = (Layout4bit { quant_type, blocksize, shape }, device.clone().inner());
        Ok(Self { layout, dtype, device, elements, filled: 0, parts: None })
    }

    /// Elements that were given.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Quantises the next window of the flattened weight, `[n]` on the device. All windows but the last are whole blocks.
    ///
    /// # Errors
    /// [`QuantError::MixedDtypes`], [`QuantError::WindowOutOfRange`] or [`QuantError::UnalignedWindow`].
    ///
    /// # Panics
    /// As Burn does, if the window is on another device.
    pub fn fill(&mut self, window: Tensor<1>) -> Result<(), QuantError> {
        let (offset, len, elements) = (self.filled, window.dims()[0], self.elements);
        let found = WeightDtype::of(window.dtype());
        if found != Some(self.dtype) {
            return Err(QuantError::MixedDtypes { expected: self.dtype, found: found.unwrap_or(WeightDtype::Float32) });
        }
        let end = offset.checked_add(len).filter(|end| *end <= elements);
        let end = end.ok_or(QuantError::WindowOutOfRange { offset, len, elements })?;
        let blocksize = self.layout.blocksize.get();
        if end < elements && !end.is_multiple_of(blocksize) {
            return Err(QuantError::UnalignedWindow { offset, len, blocksize });
        }
        if len > 0 {
            self.launch(window);
        }
        self.filled = end;
        Ok(())
    }

    #[cfg(feature = "cube")]
    fn launch(&mut self, window: Tensor<1>) {
        let window = window.into_dispatch();
        let (packed, absmax) = match self.parts.take() {
            Some((packed, absmax)) => (packed.into_dispatch(), absmax.into_dispatch()),
            None => <Dispatch as Quantize4bitOps>::quantize4bit_room(window.clone(), self.layout),
        };
        let (packed, absmax) =
            <Dispatch as Quantize4bitOps>::quantize4bit_window(window, packed, absmax, self.filled, self.layout);
        self.parts = Some((Tensor::from_dispatch(packed), Tensor::from_dispatch(absmax)));
    }

    #[cfg(not(feature = "cube"))]
    fn launch(&mut self, _window: Tensor<1>) {}

    /// The weight, once every element was given. Whether all of them were finite is not known yet: see [`Device4bit::check`].
    ///
    /// # Errors
    /// [`QuantError::IncompleteWeight`].
    pub fn finish(self) -> Result<Device4bit, QuantError> {
        let incomplete = QuantError::IncompleteWeight { filled: self.filled, elements: self.elements };
        let (packed, absmax) = self.parts.filter(|_| self.filled == self.elements).ok_or(incomplete)?;
        Ok(Device4bit { packed, absmax, layout: self.layout, dtype: self.dtype })
    }

    /// The device that quantises.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl Device4bit {
    /// How the codes are read.
    pub fn layout(&self) -> Layout4bit {
        self.layout
    }

    /// The dtype of the weight before it was quantised.
    pub fn dtype(&self) -> WeightDtype {
        self.dtype
    }

    /// Waits for the device and finds out whether all elements were finite.
    ///
    /// # Errors
    /// [`QuantError::NonFiniteBlock`] with the first block that has no codes, [`QuantError::Device`] if the device fails.
    pub fn check(&self) -> Result<(), QuantError> {
        // The host looks at the scales: Burn's reductions compile a kernel or more for each size.
        self.scales().map(drop)
    }

    /// The scales, fetched from the device, one for each block; the codes stay there.
    ///
    /// # Errors
    /// As [`Device4bit::check`].
    pub fn scales(&self) -> Result<Vec<f32>, QuantError> {
        let scales = read(self.absmax.clone())?;
        let bad = scales.iter().position(|scale| !scale.is_finite() || *scale < 0.0);
        let Some(block) = bad else { return Ok(scales) };
        let blocksize = self.layout.blocksize.get();
        let elements = self.layout.shape[0] * self.layout.shape[1];
        let first = block * blocksize;
        Err(QuantError::NonFiniteBlock { first, last: (first + blocksize).min(elements) - 1 })
    }

    /// The weight on the host.
    ///
    /// # Errors
    /// [`QuantError::Device`] if the device fails, and those of [`Quantized4bit::from_parts`].
    pub fn to_host(&self) -> Result<Quantized4bit, QuantError> {
        let failed = |error: String| QuantError::Device { reason: error };
        let packed = self.packed.clone().try_into_data().map_err(|error| failed(error.to_string()))?;
        let mut packed = packed.try_into_vec::<u8>().map_err(|error| failed(format!("{error:?}")))?;
        let Layout4bit { quant_type, blocksize, shape } = self.layout;
        packed.truncate((shape[0] * shape[1]).div_ceil(2));
        let absmax = Absmax::Plain(read(self.absmax.clone())?);
        Quantized4bit::from_parts(quant_type, blocksize, shape, self.dtype, packed.into(), absmax)
    }

    pub(crate) fn into_parts(self) -> (Tensor<1, Int>, Tensor<1>) {
        (self.packed, self.absmax)
    }
}

fn read(tensor: Tensor<1>) -> Result<Vec<f32>, QuantError> {
    let data = tensor.try_into_data().map_err(|error| QuantError::Device { reason: error.to_string() })?;
    data.try_into_vec().map_err(|error| QuantError::Device { reason: format!("{error:?}") })
}

/// Whether a device has a kernel that decodes.
#[cfg(feature = "cube")]
pub(crate) fn decodes(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Cube(_))
}

/// The dense weight on the device of its codes, by a kernel.
#[cfg(feature = "cube")]
pub(crate) fn dequantize_on_device(
    packed: Tensor<1, Int>,
    absmax: Tensor<1>,
    absmax_codes: Option<Tensor<1, Int>>,
    layout: Layout4bit,
    dtype: FloatDType,
) -> Tensor<2> {
    let nested = absmax_codes.is_some();
    let codes = absmax_codes.unwrap_or_else(|| packed.clone()).into_dispatch();
    let (packed, absmax) = (packed.into_dispatch(), absmax.inner().into_dispatch());
    let weight = <Dispatch as Quantize4bitOps>::dequantize4bit(packed, absmax, codes, layout, nested, dtype);
    Tensor::from_dispatch(weight)
}
