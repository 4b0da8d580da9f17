//! Quantisation of a weight that arrives in pieces.

use std::collections::BTreeMap;

use bytes::Bytes;
use rayon::prelude::*;

use super::{
    Absmax, Blocksize, QuantType, Quantized4bit, Table16,
    cpu::{LEAST_SCALE, quantize_blocks},
    weight::elements_of,
};
use crate::{
    Element, Elements, QuantError, QuantWeight, WeightDtype,
    cpu::{Isa, magnitude},
    quantize::Encode,
};

/// Quantises a weight `[out, in]` from windows of its elements, in any order.
///
/// Its memory is that of the result plus one block for each window whose ends are not on a block's. The result is the same
/// whatever the windows.
///
/// ```
/// use automodel_quant::{Elements, WeightDtype, table16::{Blocksize, QuantType, Quantized4bit, Quantizer}};
///
/// let weight: Vec<f32> = (0..10 * 20).map(|i| (i as f32).cos()).collect();
/// let (shape, blocksize) = ([10, 20], Blocksize::default());
/// let mut quantizer = Quantizer::new(QuantType::Nf4, blocksize, shape, WeightDtype::Float32)?;
/// quantizer.fill(150, Elements::F32(&weight[150..]))?;
/// quantizer.fill(0, Elements::F32(&weight[..150]))?;
/// let whole = Quantized4bit::quantize(QuantType::Nf4, blocksize, shape, Elements::F32(&weight))?;
/// assert_eq!(quantizer.finish()?, whole);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
#[derive(Debug)]
pub struct Quantizer {
    quant_type: QuantType,
    blocksize: Blocksize,
    shape: [usize; 2],
    dtype: WeightDtype,
    elements: usize,
    packed: Vec<u8>,
    absmax: Vec<f32>,
    /// Ends of what was filled, by its start; neighbours are joined.
    filled: BTreeMap<usize, usize>,
    /// Elements of windows that were refused.
    lost: usize,
    /// Blocks of which only a part has arrived, by their place.
    partial: BTreeMap<usize, PartialBlock>,
    isa: Isa,
}

#[derive(Debug)]
struct PartialBlock {
    values: Vec<f32>,
    missing: usize,
}

/// Elements that one task quantises.
const TASK: usize = 1 << 15;

impl Quantizer {
    /// Reserves the result.
    ///
    /// # Errors
    /// [`QuantError::InvalidShape`] or [`QuantError::Allocation`].
    pub fn new(
        quant_type: QuantType,
        blocksize: Blocksize,
        shape: [usize; 2],
        dtype: WeightDtype,
    ) -> Result<Self, QuantError> {
        let elements = elements_of(shape)?;
        Ok(Self {
            quant_type,
            blocksize,
            shape,
            dtype,
            elements,
            packed: zeros(elements.div_ceil(2))?,
            absmax: zeros(blocksize.blocks(elements))?,
            filled: BTreeMap::new(),
            lost: 0,
            partial: BTreeMap::new(),
            isa: Isa::detect(),
        })
    }

    /// Quantises a window that begins at element `offset` of the flattened weight, on several threads if it is large.
    ///
    /// # Errors
    /// [`QuantError::NonFinite`] with the element's place in the whole weight; [`QuantError::MixedDtypes`],
    /// [`QuantError::WindowOutOfRange`] or [`QuantError::WindowOverlap`]. After an error the weight cannot be finished.
    pub fn fill(&mut self, offset: usize, window: Elements<'_>) -> Result<(), QuantError> {
        if window.dtype() != self.dtype {
            return Err(QuantError::MixedDtypes { expected: self.dtype, found: window.dtype() });
        }
        let len = window.len();
        let end = offset.checked_add(len).filter(|&end| end <= self.elements);
        let end = end.ok_or(QuantError::WindowOutOfRange { offset, len, elements: self.elements })?;
        if len == 0 {
            return Ok(());
        }
        self.check_new(offset, end)?;
        self.mark(offset, end);
        let done = match window {
            Elements::F32(values) => self.quantize(offset, values),
            Elements::F16(values) => self.quantize(offset, values),
            Elements::BF16(values) => self.quantize(offset, values),
        };
        if done.is_err() {
            self.lost += len;
        }
        done
    }

    /// The quantised weight, once every element was given.
    ///
    /// # Errors
    /// [`QuantError::IncompleteWeight`].
    pub fn finish(self) -> Result<Quantized4bit, QuantError> {
        let filled = self.filled.iter().map(|(start, end)| end - start).sum::<usize>() - self.lost;
        if filled != self.elements {
            return Err(QuantError::IncompleteWeight { filled, elements: self.elements });
        }
        let (packed, absmax) = (Bytes::from(self.packed), Absmax::Plain(self.absmax));
        Quantized4bit::from_parts(self.quant_type, self.blocksize, self.shape, self.dtype, packed, absmax)
    }

    /// Cuts a window into the end of one block, whole blocks, and the beginning of another.
    fn quantize<T: Element>(&mut self, offset: usize, values: &[T]) -> Result<(), QuantError> {
        let blocksize = self.blocksize.get();
        let head = (offset.next_multiple_of(blocksize) - offset).min(values.len());
        let (head_values, rest) = values.split_at(head);
        let (whole, tail) = rest.split_at(rest.len() / blocksize * blocksize);
        self.add_to_block(offset, head_values)?;
        self.quantize_whole(offset + head, whole)?;
        self.add_to_block(offset + head + whole.len(), tail)
    }

    fn quantize_whole<T: Element>(&mut self, offset: usize, values: &[T]) -> Result<(), QuantError> {
        let blocksize = self.blocksize.get();
        let first = offset / blocksize;
        let absmax = &mut self.absmax[first..first + values.len() / blocksize];
        let packed = &mut self.packed[offset / 2..(offset + values.len()) / 2];
        let (quant_type, isa) = (self.quant_type, self.isa);
        let quantize = |values: &[T], packed: &mut [u8], absmax: &mut [f32]| {
            quantize_blocks(isa, quant_type, blocksize, values, packed, absmax)
        };
        let done = if values.len() <= TASK {
            quantize(values, packed, absmax)
        } else {
            let tasks = values.par_chunks(TASK).zip(packed.par_chunks_mut(TASK / 2));
            let tasks = tasks.zip(absmax.par_chunks_mut(TASK / blocksize)).enumerate();
            tasks.try_for_each(|(task, ((values, packed), absmax))| {
                quantize(values, packed, absmax).map_err(|block| task * (TASK / blocksize) + block)
            })
        };
        done.map_err(|block| non_finite(offset + block * blocksize, &values[block * blocksize..][..blocksize]))
    }

    /// Adds elements of one block and quantises it when it is complete.
    fn add_to_block<T: Element>(&mut self, offset: usize, values: &[T]) -> Result<(), QuantError> {
        if values.is_empty() {
            return Ok(());
        }
        if magnitude(values).is_none() {
            return Err(non_finite(offset, values));
        }
        let blocksize = self.blocksize.get();
        let place = offset / blocksize;
        let start = place * blocksize;
        let len = blocksize.min(self.elements - start);
        let block = self.partial.entry(place).or_insert_with(|| PartialBlock { values: vec![0.0; len], missing: len });
        for (slot, value) in block.values[offset - start..].iter_mut().zip(values) {
            *slot = value.to_f32();
        }
        block.missing -= values.len();
        if block.missing > 0 {
            return Ok(());
        }
        let values = std::mem::take(&mut block.values);
        self.partial.remove(&place);
        let packed = &mut self.packed[start / 2..(start + len).div_ceil(2)];
        if len == blocksize {
            let absmax = &mut self.absmax[place..=place];
            let done = quantize_blocks(self.isa, self.quant_type, blocksize, &values, packed, absmax);
            return done.map_err(|_| non_finite(start, &values));
        }
        self.absmax[place] = quantize_short(self.quant_type, &values, packed);
        Ok(())
    }

    fn check_new(&self, offset: usize, end: usize) -> Result<(), QuantError> {
        match self.filled.range(..end).next_back() {
            Some((_, &filled_end)) if filled_end > offset => {
                Err(QuantError::WindowOverlap { offset, len: end - offset })
            }
            _ => Ok(()),
        }
    }

    fn mark(&mut self, mut start: usize, mut end: usize) {
        if let Some((&before, _)) =
            self.filled.range(..start).next_back().filter(|&(_, &filled_end)| filled_end == start)
        {
            start = before;
        }
        if let Some(after) = self.filled.remove(&end) {
            end = after;
        }
        self.filled.insert(start, end);
    }
}

/// The last block if it is short: bitsandbytes divides by its scale, which is never zero, instead of multiplying with the
/// reciprocal, and gives the second half of an odd last byte the code of zero.
fn quantize_short(quant_type: QuantType, values: &[f32], packed: &mut [u8]) -> f32 {
    let encoder = quant_type.encoder();
    let scale = magnitude(values).unwrap_or_default().max(LEAST_SCALE);
    for (pair, byte) in values.chunks(2).zip(packed) {
        let second = pair.get(1).map_or(0.0, |second| second / scale);
        *byte = encoder.encode(pair[0] / scale) << 4 | encoder.encode(second);
    }
    scale
}

fn non_finite<T: Element>(offset: usize, values: &[T]) -> QuantError {
    let place = values.iter().position(|value| !value.to_f32().is_finite()).unwrap_or_default();
    let value = values.get(place).map_or(f32::NAN, |value| value.to_f32());
    QuantError::NonFinite { index: offset + place, value }
}

/// Zeroes whose pages the system allocates when they are first written.
fn zeros<T: Zero>(len: usize) -> Result<Vec<T>, QuantError> {
    let refused = || QuantError::Allocation { bytes: len.saturating_mul(size_of::<T>()) };
    let layout = std::alloc::Layout::array::<T>(len).map_err(|_| refused())?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the layout has a size; what was allocated for `len` elements holds as many, and zero bytes are a valid `T`.
    unsafe {
        let values = std::alloc::alloc_zeroed(layout).cast::<T>();
        if values.is_null() { Err(refused()) } else { Ok(Vec::from_raw_parts(values, len, len)) }
    }
}

/// # Safety
/// Zero bytes are a value.
unsafe trait Zero {}

// SAFETY: every pattern of bits is a number.
unsafe impl Zero for u8 {}
// SAFETY: zero bits are 0.0.
unsafe impl Zero for f32 {}

/// [`Quantizer`] and, of double-quantised schemes, the quantisation of its scales.
#[derive(Debug)]
pub(crate) struct SchemeQuantizer {
    quantizer: Quantizer,
    double_quant: bool,
}

impl SchemeQuantizer {
    pub fn new(scheme: Table16, shape: [usize; 2], dtype: WeightDtype) -> Result<Self, QuantError> {
        let quantizer = Quantizer::new(scheme.quant_type, scheme.blocksize, shape, dtype)?;
        Ok(Self { quantizer, double_quant: scheme.double_quant })
    }
}

impl Encode for SchemeQuantizer {
    fn fill(&mut self, offset: usize, window: Elements<'_>) -> Result<(), QuantError> {
        self.quantizer.fill(offset, window)
    }

    fn finish(self: Box<Self>) -> Result<QuantWeight, QuantError> {
        let weight = self.quantizer.finish()?;
        Ok(if self.double_quant { weight.nested() } else { weight }.into())
    }
}
