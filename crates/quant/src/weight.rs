//! A quantised weight on the host, in any scheme.

use bytes::Bytes;

use crate::{
    Cut, Element, Elements, OwnedElements, QuantError, Quantizer, Scheme, WeightDtype,
    table16::{Absmax, NestedAbsmax, Quantized4bit, Table16, check_length},
};

/// A quantised weight `[out, in]`.
///
/// Its parts are those that its [`Scheme`] names: codes, which may be shared with a mapped file, scales in float32, and scales that are
/// codes themselves. Every value was checked against the scheme when it was made.
///
/// ```
/// use automodel_quant::{Elements, QuantWeight, Scheme};
///
/// let values: Vec<f32> = (0..6 * 32).map(|i| (i as f32).sin()).collect();
/// let weight = QuantWeight::quantize(Scheme::nf4(), [6, 32], Elements::F32(&values))?;
/// assert_eq!(Some(weight.byte_len() as u64), Scheme::nf4().bytes([6, 32]));
///
/// let decoded: Vec<f32> = weight.dequantize();
/// assert!(values.iter().zip(&decoded).all(|(a, b)| (a - b).abs() < 0.16));
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QuantWeight {
    scheme: Scheme,
    shape: [usize; 2],
    dtype: WeightDtype,
    codes: Bytes,
    /// Of double-quantised tables the mean comes first.
    scales: Vec<f32>,
    scale_codes: Option<Bytes>,
}

impl QuantWeight {
    /// Quantises a whole weight `[out, in]` in row-major order. [`Quantizer`] takes it in pieces.
    ///
    /// # Errors
    /// [`QuantError::NonFinite`] with the place of an element that has no code, [`QuantError::InvalidShape`],
    /// [`QuantError::WindowOutOfRange`] or [`QuantError::IncompleteWeight`] if the elements are not those of the shape.
    pub fn quantize(scheme: impl Into<Scheme>, shape: [usize; 2], weight: Elements<'_>) -> Result<Self, QuantError> {
        let mut quantizer = Quantizer::new(scheme, shape, weight.dtype())?;
        quantizer.fill(0, weight)?;
        quantizer.finish()
    }

    /// How it is represented.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The dtype of the weight before it was quantised.
    pub fn dtype(&self) -> WeightDtype {
        self.dtype
    }

    /// The codes, as the scheme packs them.
    pub fn codes(&self) -> &Bytes {
        &self.codes
    }

    /// Bytes of all parts, as [`Scheme::bytes`] counts them.
    pub fn byte_len(&self) -> usize {
        let bytes = self.scheme.bytes(self.shape).and_then(|bytes| usize::try_from(bytes).ok());
        bytes.unwrap_or(usize::MAX)
    }

    /// The whole weight in row-major order, rounded to `T`.
    pub fn dequantize<T: Element>(&self) -> Vec<T> {
        let mut out = vec![T::default(); self.shape[0] * self.shape[1]];
        self.scheme.representation().decode(self, T::elements_mut(&mut out));
        out
    }

    /// The whole weight in row-major order, rounded to `T`, into memory of the caller's.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if `out` has not one place for each element.
    pub fn dequantize_into<T: Element>(&self, out: &mut [T]) -> Result<(), QuantError> {
        check_length("dequantised weight", self.shape[0] * self.shape[1], out.len())?;
        self.scheme.representation().decode(self, T::elements_mut(out));
        Ok(())
    }

    /// The whole weight in its original dtype.
    pub fn dequantize_to_original(&self) -> OwnedElements {
        match self.dtype {
            WeightDtype::Float32 => OwnedElements::F32(self.dequantize()),
            WeightDtype::Float16 => OwnedElements::F16(self.dequantize()),
            WeightDtype::BFloat16 => OwnedElements::BF16(self.dequantize()),
        }
    }

    /// The weight as one that had another dtype before it was quantised.
    pub(crate) fn with_dtype(self, dtype: WeightDtype) -> Self {
        Self { dtype, ..self }
    }

    /// The part of this weight that `cut` is, as a weight `[out, in]` of its own. Its codes are shared with this one if they lie together.
    ///
    /// # Errors
    /// [`QuantError::OtherCut`] for a cut of another scheme or shape, [`QuantError::LengthMismatch`] for a shape with other elements.
    pub fn part(&self, cut: &Cut, shape: [usize; 2]) -> Result<Self, QuantError> {
        self.take_part(cut, shape, true)
    }

    /// As [`part`](Self::part), with memory of its own.
    ///
    /// # Errors
    /// Those of [`part`](Self::part).
    pub fn copy_part(&self, cut: &Cut, shape: [usize; 2]) -> Result<Self, QuantError> {
        self.take_part(cut, shape, false)
    }

    fn take_part(&self, cut: &Cut, shape: [usize; 2], share: bool) -> Result<Self, QuantError> {
        if (cut.of(), cut.shape()) != (self.scheme, self.shape) {
            return Err(QuantError::OtherCut { expected: cut.of().to_string(), found: self.scheme.to_string() });
        }
        self.scheme.representation().part(self, cut, shape, share)
    }

    /// As a weight with a table of 16 values, if its scheme is that; codes are shared, scales copied.
    pub fn table16(&self) -> Option<Quantized4bit> {
        self.scheme.table16().map(|scheme| self.typed(scheme))
    }

    pub(crate) fn typed(&self, scheme: Table16) -> Quantized4bit {
        self.clone().into_typed(scheme)
    }

    /// The parts were those of a checked weight.
    pub(crate) fn into_typed(self, scheme: Table16) -> Quantized4bit {
        let absmax = match (self.scale_codes, self.scales.split_first()) {
            (Some(codes), Some((&offset, scales))) => {
                Absmax::Nested(NestedAbsmax { codes: codes.into(), absmax: scales.to_vec(), offset })
            }
            _ => Absmax::Plain(self.scales),
        };
        Quantized4bit::from_checked(scheme, self.shape, self.dtype, self.codes, absmax)
    }
}

impl From<Quantized4bit> for QuantWeight {
    fn from(weight: Quantized4bit) -> Self {
        let (scheme, shape, dtype) = (weight.scheme().into(), weight.shape(), weight.dtype());
        let (codes, absmax) = weight.into_parts();
        let (scales, scale_codes) = match absmax {
            Absmax::Plain(scales) => (scales, None),
            Absmax::Nested(nested) => {
                let scales = std::iter::once(nested.offset).chain(nested.absmax).collect();
                (scales, Some(Bytes::from(nested.codes)))
            }
        };
        Self { scheme, shape, dtype, codes, scales, scale_codes }
    }
}

impl From<&QuantWeight> for QuantWeight {
    fn from(weight: &QuantWeight) -> Self {
        weight.clone()
    }
}
