//! Quantisation of a weight that arrives in pieces, on the host or on a device.

use burn::tensor::{Device, Tensor};

use crate::{
    Elements, QuantError, QuantWeight, Scheme, WeightDtype,
    linear::DeviceParts,
    table16::{self, Absmax},
};

/// Quantises a weight `[out, in]` on the host from windows of its elements, in any order.
///
/// Its memory is that of the result plus one unit for each window whose ends are not on a unit's. The result is the same
/// whatever the windows.
///
/// ```
/// use automodel_quant::{Elements, QuantWeight, Quantizer, Scheme, WeightDtype};
///
/// let weight: Vec<f32> = (0..10 * 20).map(|i| (i as f32).cos()).collect();
/// let mut quantizer = Quantizer::new(Scheme::nf4(), [10, 20], WeightDtype::Float32)?;
/// quantizer.fill(150, Elements::F32(&weight[150..]))?;
/// quantizer.fill(0, Elements::F32(&weight[..150]))?;
/// let whole = QuantWeight::quantize(Scheme::nf4(), [10, 20], Elements::F32(&weight))?;
/// assert_eq!(quantizer.finish()?, whole);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Debug)]
pub struct Quantizer(Box<dyn Encode>);

/// How a representation quantises on the host.
pub(crate) trait Encode: std::fmt::Debug + Send + Sync {
    /// As [`Quantizer::fill`].
    fn fill(&mut self, offset: usize, window: Elements<'_>) -> Result<(), QuantError>;

    /// As [`Quantizer::finish`].
    fn finish(self: Box<Self>) -> Result<QuantWeight, QuantError>;
}

impl Quantizer {
    /// Reserves the result.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`] or [`QuantError::Allocation`].
    pub fn new(scheme: impl Into<Scheme>, shape: [usize; 2], dtype: WeightDtype) -> Result<Self, QuantError> {
        scheme.into().representation().quantizer(shape, dtype).map(Self)
    }

    /// Quantises a window that begins at element `offset` of the flattened weight, on several threads if it is large.
    ///
    /// # Errors
    /// [`QuantError::NonFinite`] with the element's place in the whole weight; [`QuantError::MixedDtypes`],
    /// [`QuantError::WindowOutOfRange`] or [`QuantError::WindowOverlap`]. After an error the weight cannot be finished.
    pub fn fill(&mut self, offset: usize, window: Elements<'_>) -> Result<(), QuantError> {
        self.0.fill(offset, window)
    }

    /// The quantised weight, once every element was given.
    ///
    /// # Errors
    /// [`QuantError::IncompleteWeight`].
    pub fn finish(self) -> Result<QuantWeight, QuantError> {
        self.0.finish()
    }
}

/// Quantises a weight `[out, in]` on a GPU, window by window: the host uploads the values as they are, the device has their codes before
/// the next window arrives. Codes and scales are those of [`Quantizer`], bit for bit.
///
/// ```
/// use automodel_quant::{DeviceQuantizer, Scheme};
/// use burn::tensor::Device;
///
/// // The CPU quantises where the values are.
/// assert!(!DeviceQuantizer::supports(&Device::flex(), Scheme::nf4()));
/// ```
#[derive(Clone, Debug)]
pub struct DeviceQuantizer {
    scheme: Scheme,
    shape: [usize; 2],
    inner: table16::DeviceQuantizer,
}

impl DeviceQuantizer {
    /// Whether a device has kernels that quantise: GPUs do, in builds with their feature.
    pub fn supports(device: &Device, scheme: Scheme) -> bool {
        scheme.table16().is_some_and(|scheme| table16::DeviceQuantizer::supports(device, scheme.blocksize))
    }

    /// Begins a weight.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`], [`QuantError::NoDeviceKernels`] where the device has none, [`QuantError::DeviceDtype`] where it does
    /// not compute in `dtype`.
    pub fn new(
        scheme: impl Into<Scheme>,
        shape: [usize; 2],
        dtype: WeightDtype,
        device: &Device,
    ) -> Result<Self, QuantError> {
        let scheme = scheme.into();
        let unsupported = || QuantError::NoDeviceKernels { device: format!("{device:?}") };
        let table = scheme.table16().ok_or_else(unsupported)?;
        let inner = table16::DeviceQuantizer::new(table.quant_type, table.blocksize, shape, dtype, device)?;
        Ok(Self { scheme, shape, inner })
    }

    /// All windows but the last are multiples of this many elements.
    pub fn unit(&self) -> usize {
        self.scheme.unit(self.shape)
    }

    /// Elements that were given.
    pub fn filled(&self) -> usize {
        self.inner.filled()
    }

    /// Quantises the next window of the flattened weight, `[n]` on the device. All windows but the last are whole units.
    ///
    /// # Errors
    /// [`QuantError::MixedDtypes`], [`QuantError::WindowOutOfRange`] or [`QuantError::UnalignedWindow`].
    ///
    /// # Panics
    /// As Burn does, if the window is on another device.
    pub fn fill(&mut self, window: Tensor<1>) -> Result<(), QuantError> {
        self.inner.fill(window)
    }

    /// The weight, once every element was given. Whether all of them were finite may not be known yet: see [`DeviceWeight::check`].
    ///
    /// # Errors
    /// [`QuantError::IncompleteWeight`]; of schemes that code scales too, which the host does, those of [`DeviceWeight::check`].
    pub fn finish(self) -> Result<DeviceWeight, QuantError> {
        let plain = DeviceWeight::from_table(self.inner.finish()?, None)?;
        if !self.scheme.is_joint() {
            return Ok(plain);
        }
        let scales = table16::NestedAbsmax::quantize(&plain.scales()?);
        plain.with_scales(Absmax::Nested(scales))
    }

    /// The device that quantises.
    pub fn device(&self) -> &Device {
        self.inner.device()
    }
}

/// A weight that was quantised on a GPU, whose codes were never on the host.
#[derive(Clone, Debug)]
pub struct DeviceWeight {
    plain: table16::Device4bit,
    /// In place of the device's own, which were fetched and checked then.
    scales: Option<Absmax>,
}

impl DeviceWeight {
    /// How it is represented.
    pub fn scheme(&self) -> Scheme {
        let table16::Layout4bit { quant_type, blocksize, .. } = self.plain.layout();
        let double_quant = matches!(self.scales, Some(Absmax::Nested(_)));
        table16::Table16 { quant_type, blocksize, double_quant }.into()
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.plain.layout().shape
    }

    /// The dtype of the weight before it was quantised.
    pub fn dtype(&self) -> WeightDtype {
        self.plain.dtype()
    }

    /// Waits for the device and finds out whether all elements were finite, unless that is known already.
    ///
    /// # Errors
    /// [`QuantError::NonFiniteBlock`] with the first block that has no codes, [`QuantError::Device`] if the device fails.
    pub fn check(&self) -> Result<(), QuantError> {
        if self.scales.is_some() { Ok(()) } else { self.plain.check() }
    }

    /// The weight on the host.
    ///
    /// # Errors
    /// [`QuantError::Device`] if the device fails, [`QuantError::InvalidScale`] if elements were not finite.
    pub fn to_host(&self) -> Result<QuantWeight, QuantError> {
        let weight = self.plain.to_host()?;
        Ok(match &self.scales {
            Some(scales) => weight.with_absmax(scales.clone())?.into(),
            None => weight.into(),
        })
    }

    pub(crate) fn scales(&self) -> Result<Vec<f32>, QuantError> {
        self.plain.scales()
    }

    /// With other scales than its own.
    pub(crate) fn with_scales(self, scales: Absmax) -> Result<Self, QuantError> {
        Self::from_table(self.plain, Some(scales))
    }

    /// A weight with a table; with `scales` in place of its own, one for each block.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if there are more or fewer scales than blocks.
    pub fn from_table(plain: table16::Device4bit, scales: Option<Absmax>) -> Result<Self, QuantError> {
        if let Some(scales) = &scales {
            table16::check_length("absmax", plain.layout().blocks(), scales.blocks())?;
        }
        Ok(Self { plain, scales })
    }

    pub(crate) fn into_device_parts(self) -> DeviceParts {
        let (codes, own) = self.plain.into_parts();
        let (scales, scale_codes) = match self.scales {
            Some(scales) => table16::scales_on(&scales, &codes.device()),
            None => (own, None),
        };
        DeviceParts { codes, scales, scale_codes }
    }
}
