//! A weight put together from weights that are its parts.

use crate::{QuantError, QuantWeight};

/// Why parts cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// Parts that are coded in different ways.
    #[error("an earlier part has another code table, block size or dtype")]
    OtherScheme,
    /// A part that cannot be moved without decoding.
    #[error("elements {start}..{end} there are no whole blocks of {unit}")]
    NotWholeUnits {
        /// First element in the whole weight.
        start: usize,
        /// Element after the last.
        end: usize,
        /// Elements of a unit.
        unit: usize,
    },
    /// Parts that give the same elements different values.
    #[error("two parts have different values for the same elements")]
    Conflict,
}

/// A weight put together from weights that are its parts, without decoding.
///
/// ```
/// use automodel_quant::{Assembly, Elements, QuantWeight, Scheme};
///
/// let row = |value| QuantWeight::quantize(Scheme::nf4(), [1, 64], Elements::F32(&[value; 64]));
/// let (first, second) = (row(0.5)?, row(2.0)?);
/// let mut assembly = Assembly::new(&first, [2, 64])?;
/// assembly.add(&second, &[(0, 64, 64)]).unwrap();
/// assembly.add(&first, &[(0, 0, 64)]).unwrap();
/// let (weight, as_they_came) = assembly.finish()?;
/// assert_eq!((weight.dequantize::<f32>()[64], as_they_came), (2.0, true));
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Debug)]
pub struct Assembly(Box<dyn Assemble>);

/// How a representation puts weights together.
pub(crate) trait Assemble: std::fmt::Debug + Send + Sync {
    /// As [`Assembly::add`].
    fn add(&mut self, weight: &QuantWeight, runs: &[(usize, usize, usize)]) -> Result<(), AssemblyError>;

    /// As [`Assembly::covered`].
    fn covered(&self) -> usize;

    /// As [`Assembly::is_complete`].
    fn is_complete(&self) -> bool;

    /// As [`Assembly::finish`].
    fn finish(self: Box<Self>) -> Result<(QuantWeight, bool), QuantError>;
}

impl Assembly {
    /// A weight `[out, in]` in the scheme of its first part, which is yet to be added.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`].
    pub fn new(first: &QuantWeight, shape: [usize; 2]) -> Result<Self, QuantError> {
        first.scheme().representation().assembly(first, shape).map(Self)
    }

    /// Puts runs of a weight in their places: `(at, first, length)` are `length` elements of `weight` from `at`, which become those of
    /// the whole from `first`.
    ///
    /// # Errors
    /// [`AssemblyError`]; the assembly cannot be finished then.
    pub fn add(&mut self, weight: &QuantWeight, runs: &[(usize, usize, usize)]) -> Result<(), AssemblyError> {
        self.0.add(weight, runs)
    }

    /// Elements that came so far.
    pub fn covered(&self) -> usize {
        self.0.covered()
    }

    /// Whether all elements came.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// The whole weight, and whether its scales are as they came: 8-bit scales that cannot be joined become float32 scales of the same
    /// values.
    ///
    /// # Errors
    /// [`QuantError::IncompleteWeight`].
    pub fn finish(self) -> Result<(QuantWeight, bool), QuantError> {
        self.0.finish()
    }
}
