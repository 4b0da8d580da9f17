//! Parts of one weight that are quantised together.

use crate::{
    Cut, DeviceWeight, QuantError, QuantWeight, Scheme,
    table16::{self, JointScales},
};

/// A weight that was just quantised, where that was done.
#[derive(Clone, Debug)]
pub enum Quantized {
    /// On the host.
    Host(QuantWeight),
    /// On a device.
    Device(Box<DeviceWeight>),
}

impl Quantized {
    /// How it is represented.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Host(weight) => weight.scheme(),
            Self::Device(weight) => weight.scheme(),
        }
    }

    /// The scales of a weight with a table, in float32; those of a device are known to be finite then.
    fn scales(&self) -> Result<Vec<f32>, QuantError> {
        match self {
            Self::Host(weight) => Ok(weight.table16().map(|weight| weight.scales()).unwrap_or_default()),
            Self::Device(weight) => weight.scales(),
        }
    }

    fn with_scales(self, scales: table16::Absmax) -> Result<Self, QuantError> {
        match self {
            Self::Host(weight) => match weight.table16() {
                Some(weight) => Ok(Self::Host(weight.with_absmax(scales)?.into())),
                None => Ok(Self::Host(weight)),
            },
            Self::Device(weight) => Ok(Self::Device(Box::new(weight.with_scales(scales)?))),
        }
    }
}

/// Parts of one weight whose units depend on each other ([`Scheme::is_joint`]): double quantisation codes the scales of the whole weight
/// around one mean. Each part is quantised in [`Scheme::separate`]; when all are there, they become parts of the whole.
///
/// ```
/// use automodel_quant::{Cut, Elements, Joint, QuantWeight, Quantized, Scheme, table16::{QuantType, Table16}};
///
/// let scheme = Scheme::from(Table16::new(QuantType::Nf4).with_double_quant(true));
/// let values: Vec<f32> = (0..8 * 64).map(|i| (i as f32).sin()).collect();
/// let mut joint = Joint::new(scheme, [8, 64])?;
/// for start in [0, 256] {
///     let cut = Cut::new(scheme, [8, 64], [start..start + 256]).unwrap();
///     let part = QuantWeight::quantize(scheme.separate(), [4, 64], Elements::F32(&values[start..][..256]))?;
///     joint.add(cut, Quantized::Host(part))?;
/// }
/// let whole = QuantWeight::quantize(scheme, [8, 64], Elements::F32(&values))?;
/// let expected = whole.part(&Cut::new(scheme, [8, 64], [0..256]).unwrap(), [4, 64])?;
/// assert!(matches!(&joint.finish()?[0], Quantized::Host(part) if *part == expected));
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Debug)]
pub struct Joint {
    scheme: Scheme,
    shape: [usize; 2],
    scales: JointScales,
    parts: Vec<(Cut, Quantized)>,
}

impl Joint {
    /// Of a weight `[out, in]` in a scheme.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`].
    pub fn new(scheme: Scheme, shape: [usize; 2]) -> Result<Self, QuantError> {
        let units = table16::elements_of(shape)?.div_ceil(scheme.unit(shape));
        Ok(Self { scheme, shape, scales: JointScales::new(units), parts: Vec::new() })
    }

    /// Adds a part, quantised in [`Scheme::separate`].
    ///
    /// # Errors
    /// [`QuantError::OtherCut`] for a cut of another scheme or shape, [`QuantError::LengthMismatch`] for a weight of another size than
    /// its cut; [`QuantError::NonFiniteBlock`] or [`QuantError::Device`] for a weight of a device.
    pub fn add(&mut self, cut: Cut, weight: Quantized) -> Result<(), QuantError> {
        if (cut.of(), cut.shape()) != (self.scheme, self.shape) || weight.scheme() != self.scheme.separate() {
            return Err(QuantError::OtherCut { expected: self.scheme.to_string(), found: cut.of().to_string() });
        }
        if self.scheme.is_joint() {
            self.scales.put(&cut.units(), &weight.scales()?)?;
        }
        self.parts.push((cut, weight));
        Ok(())
    }

    /// The parts, in the order in which they were added, each in the scheme of its cut.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if a weight does not fit its cut.
    pub fn finish(self) -> Result<Vec<Quantized>, QuantError> {
        if !self.scheme.is_joint() {
            return Ok(self.parts.into_iter().map(|(_, weight)| weight).collect());
        }
        let whole = self.scales.nested();
        let part = |(cut, weight): (Cut, Quantized)| {
            let nested = cut.scheme().has_scale_codes();
            weight.with_scales(table16::scales_of(&whole, &cut.units(), nested))
        };
        self.parts.into_iter().map(part).collect()
    }
}
