//! One folder for each representation of quantised weights, and the operations that each provides.

pub mod table16;

use std::{fmt, ops::Range};

use burn::backend::{Backend, Flex, tensor::FloatTensor};
#[cfg(feature = "cube")]
use burn::tensor::DType;
use burn::tensor::{Device, FloatDType};
use burn_flex::FlexTensor;

use crate::{
    Cut, PartSpec, Precision, QuantError, QuantWeight, Scheme, WeightDtype,
    assembly::Assemble,
    dtype::ElementsMut,
    files::{PlannedTensor, StoredTensor},
    linear::{DeviceParts, Parts},
    quantize::Encode,
};

/// The operations of a representation. [`Scheme`] is matched in [`Scheme::representation`] and in [`dequantize`], nowhere else.
pub(crate) trait Representation: fmt::Display {
    /// As [`Scheme::name`].
    fn name(&self) -> &'static str;

    /// A word that identifies the coding, for records: `nf4_64`.
    fn code_name(&self) -> String;

    /// As [`Scheme::parts`]; the elements of `shape` do not overflow.
    fn parts(&self, shape: [usize; 2]) -> Vec<PartSpec>;

    /// As [`Scheme::unit`].
    fn unit(&self, shape: [usize; 2]) -> usize;

    /// The scheme of a part that is these runs of units: what depends on other units than its own cannot be kept.
    fn of_part(&self, units: &[Range<usize>]) -> Scheme;

    /// As [`Scheme::separate`].
    fn separate(&self) -> Scheme;

    /// As [`Scheme::transient_bytes`].
    fn transient_bytes(&self, elements: usize) -> u64;

    /// As [`Scheme::joint_bytes`].
    fn joint_bytes(&self, elements: u64) -> u64;

    /// Whether scales are codes themselves.
    fn has_scale_codes(&self) -> bool;

    /// A quantiser on the host.
    fn quantizer(&self, shape: [usize; 2], dtype: WeightDtype) -> Result<Box<dyn Encode>, QuantError>;

    /// Decodes a whole weight; `out` has a place for each element.
    fn decode(&self, weight: &QuantWeight, out: ElementsMut<'_>);

    /// The part of a weight that a cut is, whose scheme and shape are the weight's; with codes shared if they lie together and `share` is
    /// set.
    fn part(&self, weight: &QuantWeight, cut: &Cut, shape: [usize; 2], share: bool) -> Result<QuantWeight, QuantError>;

    /// An empty weight `[out, in]` for parts that are represented as `first`.
    fn assembly(&self, first: &QuantWeight, shape: [usize; 2]) -> Result<Box<dyn Assemble>, QuantError>;

    /// As [`files::planned`](crate::files::planned), of a shape whose elements do not overflow.
    fn planned(&self, parameter: &str, shape: [usize; 2], dtype: WeightDtype) -> Vec<PlannedTensor>;

    /// As [`files::write`](crate::files::write).
    fn write(&self, parameter: &str, weight: &QuantWeight) -> Vec<(String, StoredTensor)>;

    /// The parts of a weight on a device, and the scheme that they have there.
    fn upload(&self, weight: QuantWeight, device: &Device) -> (Scheme, DeviceParts);

    /// The weight of parts on a device; `None` if the device fails or they do not fit.
    fn fetch(&self, parts: DeviceParts, shape: [usize; 2], dtype: WeightDtype) -> Option<QuantWeight>;

    /// `x W^T` on Burn's CPU backend.
    fn forward(&self, parts: Parts<Flex>, shape: [usize; 2], x: FlexTensor, precision: Precision) -> FlexTensor;

    /// `dy W` on Burn's CPU backend.
    fn backward(&self, parts: Parts<Flex>, shape: [usize; 2], dy: FlexTensor) -> FlexTensor;

    /// The weight for the kernels of GPUs; `None` where plain operations must do.
    #[cfg(feature = "cube")]
    fn on_gpu(
        &self,
        parts: &Parts<burn_cubecl::CubeBackend>,
        shape: [usize; 2],
        activations: DType,
    ) -> Option<crate::cube::Weight>;
}

impl Scheme {
    /// The operations of the representation.
    pub(crate) fn representation(&self) -> &dyn Representation {
        match self {
            Self::Table16(scheme) => scheme,
        }
    }
}

/// The dense weight `[out, in]` in operations that every backend has, decoded in float32 and rounded to `dtype`.
pub(crate) fn dequantize<B: Backend>(
    scheme: Scheme,
    parts: Parts<B>,
    shape: [usize; 2],
    dtype: FloatDType,
) -> FloatTensor<B> {
    match scheme {
        Scheme::Table16(scheme) => table16::dequantize_parts::<B>(scheme, parts, shape, dtype),
    }
}
