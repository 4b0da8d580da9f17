//! Quantised weights in files: found by the names and headers of tensors, read from their bytes, and written.
//!
//! Each representation has its own readers; this module tries them in turn.

use bytes::Bytes;
use safetensors::Dtype;

use crate::{
    Declared, QuantError, QuantWeight, Scheme, WeightDtype,
    table16::{
        elements_of,
        format::{self as bitsandbytes},
    },
};

/// A tensor of a file: its header and its little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
    /// The elements in row-major order; a clone shares them.
    pub data: Bytes,
}

/// The header of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// Name in the file.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
}

/// The tensors of a checkpoint, whose bytes need not be read to find quantised weights among them.
pub trait TensorFiles {
    /// The error of reading.
    type Error;

    /// The dtype and shape of a tensor; `None` if no file has it.
    fn header(&self, name: &str) -> Option<(Dtype, Vec<usize>)>;

    /// The bytes of a small tensor, of which [`TensorFiles::header`] has the size.
    ///
    /// # Errors
    /// If they cannot be read, or are more than `most`.
    fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, Self::Error>;
}

/// A quantised weight in files, known by headers and by its description alone.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredWeight {
    /// The parameter, as the files name it.
    pub parameter: String,
    /// How it is represented.
    pub scheme: Scheme,
    /// `[out, in]` when it is decoded.
    pub shape: [usize; 2],
    /// The dtype before quantisation.
    pub dtype: WeightDtype,
    /// Its tensors, codes first; all are in the files, with these headers.
    pub tensors: Vec<TensorHeader>,
    pub(crate) format: Format,
}

/// In which way a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// bitsandbytes, 4 bits.
    BitsAndBytes,
}

/// Why a stored weight cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError<E> {
    /// The files cannot be read.
    #[error("the description of a quantised weight cannot be read")]
    Files(E),
    /// The tensors contradict each other.
    #[error(transparent)]
    Weight(QuantError),
}

impl<E> From<QuantError> for DescribeError<E> {
    fn from(error: QuantError) -> Self {
        Self::Weight(error)
    }
}

/// Describes the weight that the files have for `parameter` (its name ends in `weight`, whatever the tensors of the format are called);
/// `None` if it is not quantised. `declared` is the config's declaration: methods whose tensors do not tell enough need it.
///
/// # Errors
/// [`DescribeError::Weight`] with what is missing, superfluous or of another dtype or shape; [`DescribeError::Files`].
pub fn describe<F: TensorFiles>(
    parameter: &str,
    _declared: Option<&Declared>,
    files: &F,
) -> Result<Option<StoredWeight>, DescribeError<F::Error>> {
    bitsandbytes::describe(parameter, files)
}

/// The parameter that a tensor belongs to besides its codes, by the tensor's name: scales, tables, states. `None` for a tensor that is no
/// such part.
///
/// ```
/// use automodel_quant::files;
/// assert_eq!(files::owner("q_proj.weight.absmax"), Some("q_proj.weight"));
/// assert_eq!(files::owner("q_proj.weight"), None);
/// ```
pub fn owner(tensor: &str) -> Option<&str> {
    bitsandbytes::Companion::parse(tensor).map(|(parameter, _)| parameter)
}

/// Whether a tensor of this name shows that a checkpoint is quantised.
///
/// ```
/// use automodel_quant::files;
/// assert!(files::shows_quantization("q_proj.weight.quant_state.bitsandbytes__nf4"));
/// ```
pub fn shows_quantization(tensor: &str) -> bool {
    matches!(bitsandbytes::Companion::parse(tensor), Some((_, bitsandbytes::Companion::State(_))))
}

impl StoredWeight {
    /// Reads the weight; `tensor` finds its [`tensors`](Self::tensors). Codes are shared with the bytes given.
    ///
    /// # Errors
    /// [`QuantError`] if the tensors are not those that were described, or their values are wrong.
    pub fn read(&self, tensor: impl Fn(&str) -> Option<StoredTensor>) -> Result<QuantWeight, QuantError> {
        let weight = match self.format {
            Format::BitsAndBytes => QuantWeight::from(bitsandbytes::read_parameter(&self.parameter, tensor)?),
        };
        if (weight.scheme(), weight.shape(), weight.dtype()) != (self.scheme, self.shape, self.dtype) {
            let problem = format!("was described as {} of shape {:?} before", self.scheme, self.shape);
            return Err(QuantError::InvalidTensor { tensor: self.parameter.clone(), problem });
        }
        Ok(weight)
    }
}

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its header; of a tensor whose length is not known yet, the shortest.
    pub header: TensorHeader,
    /// Bytes by which the tensor may become longer than its header says: 0 for all but descriptions that hold numbers in decimal digits.
    pub spare: usize,
}

/// The tensors of which a weight `[out, in]` in `scheme` consists in files, codes first, before it is quantised. [`write()`] returns them in
/// this order.
///
/// # Errors
/// [`QuantError::InvalidShape`].
pub fn planned(
    parameter: &str,
    scheme: Scheme,
    shape: [usize; 2],
    dtype: WeightDtype,
) -> Result<Vec<PlannedTensor>, QuantError> {
    elements_of(shape)?;
    Ok(scheme.representation().planned(parameter, shape, dtype))
}

/// The tensors of a weight, codes first; they are shared with `weight`.
///
/// ```
/// use automodel_quant::{Elements, QuantWeight, Scheme, files};
///
/// let weight = QuantWeight::quantize(Scheme::nf4(), [2, 64], Elements::F32(&[0.5; 128]))?;
/// let names: Vec<String> = files::write("q_proj.weight", &weight).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names[..3], ["q_proj.weight", "q_proj.weight.absmax", "q_proj.weight.quant_map"]);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
pub fn write(parameter: &str, weight: &QuantWeight) -> Vec<(String, StoredTensor)> {
    weight.scheme().representation().write(parameter, weight)
}
