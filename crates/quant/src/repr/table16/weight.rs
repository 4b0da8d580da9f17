//! A 4-bit weight on the host.

use bytes::Bytes;
use rayon::prelude::*;
use std::ops::Range;

use super::cpu;
use super::{Blocksize, NestedAbsmax, QuantType, Quantizer, Table16, nested::NESTED_BLOCKSIZE};
use crate::{
    Element, Elements, QuantError, WeightDtype,
    cpu::{CHUNK, Isa},
};

/// A weight `[out, in]` in 4 bits, as bitsandbytes stores it.
///
/// The weight is flattened in row-major order and cut into blocks of [`Blocksize`] elements (not aligned to rows), the last one
/// perhaps short. An element is `code[c] * absmax[block]`, rounded to the dtype of the original weight.
///
/// ```
/// use automodel_quant::{Elements, table16::{Blocksize, QuantType, Quantized4bit}};
///
/// let weight: Vec<f32> = (0..6 * 32).map(|i| (i as f32).sin()).collect();
/// let quantized = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [6, 32], Elements::F32(&weight))?;
/// assert_eq!(quantized.byte_len(), 6 * 32 / 2 + 4 * 3);
///
/// let decoded: Vec<f32> = quantized.dequantize();
/// assert!(weight.iter().zip(&decoded).all(|(a, b)| (a - b).abs() < 0.16));
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized4bit {
    quant_type: QuantType,
    blocksize: Blocksize,
    shape: [usize; 2],
    dtype: WeightDtype,
    packed: Bytes,
    absmax: Absmax,
}

/// How packed codes and their scales are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout4bit {
    /// The code table.
    pub quant_type: QuantType,
    /// Elements that share a scale.
    pub blocksize: Blocksize,
    /// `[out, in]`
    pub shape: [usize; 2],
}

impl Layout4bit {
    /// Bytes of the codes, padded to words of 32 bits, which GPUs read.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "GPUs need it"))]
    pub(crate) fn padded_bytes(&self) -> usize {
        (self.shape[0] * self.shape[1]).div_ceil(2).next_multiple_of(4)
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> usize {
        self.blocksize.blocks(self.shape[0] * self.shape[1])
    }
}

/// The scales of the blocks.
#[derive(Clone, Debug, PartialEq)]
pub enum Absmax {
    /// In single precision.
    Plain(Vec<f32>),
    /// In 8 bits (double quantisation).
    Nested(NestedAbsmax),
}

impl Absmax {
    /// Of how many blocks these are the scales.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Plain(scales) => scales.len(),
            Self::Nested(nested) => nested.codes.len(),
        }
    }

    /// Bytes of the scales.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Plain(scales) => scales.len() * 4,
            Self::Nested(nested) => nested.codes.len() + nested.absmax.len() * 4,
        }
    }
}

impl Quantized4bit {
    /// Quantises a whole weight `[out, in]` in row-major order. [`Quantizer`] takes it in pieces.
    ///
    /// # Errors
    /// [`QuantError::NonFinite`] with the place of an element that has no code, [`QuantError::InvalidShape`],
    /// [`QuantError::WindowOutOfRange`] or [`QuantError::IncompleteWeight`] if the elements are not those of the shape.
    pub fn quantize(
        quant_type: QuantType,
        blocksize: Blocksize,
        shape: [usize; 2],
        weight: Elements<'_>,
    ) -> Result<Self, QuantError> {
        let mut quantizer = Quantizer::new(quant_type, blocksize, shape, weight.dtype())?;
        quantizer.fill(0, weight)?;
        quantizer.finish()
    }

    /// A weight from its parts: `packed` has a byte for each two elements (the first in the high half), `absmax` a scale for each
    /// block.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`], [`QuantError::LengthMismatch`] or [`QuantError::InvalidScale`] if the parts do not fit.
    pub fn from_parts(
        quant_type: QuantType,
        blocksize: Blocksize,
        shape: [usize; 2],
        dtype: WeightDtype,
        packed: Bytes,
        absmax: Absmax,
    ) -> Result<Self, QuantError> {
        let elements = elements_of(shape)?;
        let blocks = blocksize.blocks(elements);
        check_length("packed weight", elements.div_ceil(2), packed.len())?;
        match &absmax {
            Absmax::Plain(scales) => {
                check_length("absmax", blocks, scales.len())?;
                check_finite("absmax", scales)?;
            }
            Absmax::Nested(nested) => {
                check_length("absmax", blocks, nested.codes.len())?;
                check_length("nested_absmax", blocks.div_ceil(NESTED_BLOCKSIZE), nested.absmax.len())?;
                check_finite("nested_absmax", &nested.absmax)?;
                check_finite("nested_offset", &[nested.offset])?;
            }
        }
        Ok(Self { quant_type, blocksize, shape, dtype, packed, absmax })
    }

    /// A weight from parts of one that was checked.
    pub(crate) fn from_checked(
        scheme: Table16,
        shape: [usize; 2],
        dtype: WeightDtype,
        packed: Bytes,
        absmax: Absmax,
    ) -> Self {
        Self { quant_type: scheme.quant_type, blocksize: scheme.blocksize, shape, dtype, packed, absmax }
    }

    pub(crate) fn into_parts(self) -> (Bytes, Absmax) {
        (self.packed, self.absmax)
    }

    /// How it is coded.
    pub fn scheme(&self) -> Table16 {
        let double_quant = matches!(self.absmax, Absmax::Nested(_));
        Table16 { quant_type: self.quant_type, blocksize: self.blocksize, double_quant }
    }

    /// The code table.
    pub fn quant_type(&self) -> QuantType {
        self.quant_type
    }

    /// Elements that share a scale.
    pub fn blocksize(&self) -> Blocksize {
        self.blocksize
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The dtype of the weight before it was quantised.
    pub fn dtype(&self) -> WeightDtype {
        self.dtype
    }

    /// How the codes are to be read.
    pub fn layout(&self) -> Layout4bit {
        Layout4bit { quant_type: self.quant_type, blocksize: self.blocksize, shape: self.shape }
    }

    /// The codes, two to a byte, the first of a pair in the high half.
    pub fn packed(&self) -> &Bytes {
        &self.packed
    }

    /// The scales as they are stored.
    pub fn absmax(&self) -> &Absmax {
        &self.absmax
    }

    /// The scales in single precision, one for each block.
    pub fn scales(&self) -> Vec<f32> {
        match &self.absmax {
            Absmax::Plain(scales) => scales.clone(),
            Absmax::Nested(nested) => nested.dequantize(),
        }
    }

    /// Bytes of codes and scales.
    pub fn byte_len(&self) -> usize {
        self.packed.len() + self.absmax.byte_len()
    }

    /// Double quantisation: the same codes with scales in 8 bits. A weight that has such scales stays as it is.
    pub fn nested(self) -> Self {
        let absmax = match self.absmax {
            Absmax::Plain(scales) => Absmax::Nested(NestedAbsmax::quantize(&scales)),
            nested @ Absmax::Nested(_) => nested,
        };
        Self { absmax, ..self }
    }

    /// The same codes with other scales, for instance those of a larger weight of which this one is a part.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] or [`QuantError::InvalidScale`] if they do not fit.
    pub fn with_absmax(self, absmax: Absmax) -> Result<Self, QuantError> {
        Self::from_parts(self.quant_type, self.blocksize, self.shape, self.dtype, self.packed, absmax)
    }

    /// The whole weight in row-major order, rounded to `T`.
    pub fn dequantize<T: Element>(&self) -> Vec<T> {
        let mut out = vec![T::default(); self.shape[0] * self.shape[1]];
        self.decode_into(&mut out);
        out
    }

    /// The whole weight in row-major order, rounded to `T`, into memory of the caller's.
    ///
    /// # Errors
    /// [`QuantError::LengthMismatch`] if `out` has not one place for each element.
    pub fn dequantize_into<T: Element>(&self, out: &mut [T]) -> Result<(), QuantError> {
        check_length("dequantised weight", self.shape[0] * self.shape[1], out.len())?;
        self.decode_into(out);
        Ok(())
    }

    pub(super) fn decode_into<T: Element>(&self, out: &mut [T]) {
        let scales = self.scales();
        self.blocks(&scales).dequantize(0..out.len(), out);
    }

    /// Codes with scales of this weight in single precision.
    pub(crate) fn blocks<'a>(&'a self, scales: &'a [f32]) -> Blocks<'a> {
        let blocksize = self.blocksize.get();
        Blocks { quant_type: self.quant_type, blocksize, packed: &self.packed, scales, isa: Isa::detect() }
    }
}

/// Elements of a shape whose sizes are positive and whose bytes fit in memory in any dtype.
pub(crate) fn elements_of(shape: [usize; 2]) -> Result<usize, QuantError> {
    let elements =
        shape[0].checked_mul(shape[1]).filter(|&elements| elements > 0 && elements <= isize::MAX as usize / 4);
    elements.ok_or(QuantError::InvalidShape { shape })
}

pub(crate) fn check_length(part: &'static str, expected: usize, found: usize) -> Result<(), QuantError> {
    if expected == found { Ok(()) } else { Err(QuantError::LengthMismatch { part, expected, found }) }
}

fn check_finite(part: &'static str, scales: &[f32]) -> Result<(), QuantError> {
    match scales.iter().position(|scale| !scale.is_finite()) {
        Some(index) => Err(QuantError::InvalidScale { part, index, value: scales[index] }),
        None => Ok(()),
    }
}

/// Borrowed codes and scales whose lengths were checked.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    pub(crate) quant_type: QuantType,
    pub(crate) blocksize: usize,
    pub(crate) packed: &'a [u8],
    pub(crate) scales: &'a [f32],
    pub(crate) isa: Isa,
}

/// Elements that one task decodes.
const TASK: usize = 1 << 16;

impl Blocks<'_> {
    /// Decodes a range of the flattened weight, on several threads if it is long.
    pub(crate) fn dequantize<T: Element>(&self, range: Range<usize>, out: &mut [T]) {
        if range.len() <= TASK {
            return self.dequantize_here(range, out);
        }
        out.par_chunks_mut(TASK).enumerate().for_each(|(task, out)| {
            let start = range.start + task * TASK;
            self.dequantize_here(start..start + out.len(), out);
        });
    }

    /// Decodes a range of the flattened weight on this thread.
    pub(crate) fn dequantize_here<T: Element>(&self, range: Range<usize>, mut out: &mut [T]) {
        let mut at = range.start;
        while at < range.end {
            let block = at / self.blocksize;
            let end = range.end.min((block + 1) * self.blocksize);
            let (segment, rest) = out.split_at_mut(end - at);
            self.dequantize_segment(at, self.scales[block], segment);
            (at, out) = (end, rest);
        }
    }

    /// Decodes elements of one block, which may begin or end within a byte.
    fn dequantize_segment<T: Element>(&self, start: usize, scale: f32, out: &mut [T]) {
        let single = |at: usize| {
            let byte = self.packed[at / 2];
            let code = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            T::from_f32(self.quant_type.decode_table()[usize::from(code)] * scale)
        };
        let (first, rest) = out.split_at_mut((start % 2).min(out.len()));
        let (pairs, last) = rest.split_at_mut(rest.len() / 2 * 2);
        for first in first {
            *first = single(start);
        }
        let from = start.div_ceil(2);
        let bytes = &self.packed[from..from + pairs.len() / 2];
        let decoded = pairs.len();
        cpu::dequantize(self.isa, self.quant_type, scale, bytes, pairs);
        for last in last {
            *last = single(from * 2 + decoded);
        }
    }

    /// Whether rows of `columns` elements can be read chunk by chunk.
    pub(crate) fn rows_are_chunks(&self, columns: usize) -> bool {
        columns.is_multiple_of(CHUNK)
    }
}

impl From<&Quantized4bit> for crate::QuantWeight {
    fn from(weight: &Quantized4bit) -> Self {
        weight.clone().into()
    }
}
