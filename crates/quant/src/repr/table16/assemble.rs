//! A weight put together from weights that are its parts, block by block.

use super::{Absmax, Blocksize, NestedAbsmax, QuantType, Quantized4bit, nested::NESTED_BLOCKSIZE, weight::elements_of};
use crate::{AssemblyError, QuantError, QuantWeight, WeightDtype, assembly::Assemble};

/// The parts that came so far.
#[derive(Debug)]
pub(crate) struct Assembly {
    quant_type: QuantType,
    blocksize: Blocksize,
    dtype: WeightDtype,
    shape: [usize; 2],
    elements: usize,
    packed: Vec<u8>,
    scales: Vec<f32>,
    /// 8-bit scales, as long as those of all parts can be put one after another.
    nested: Option<NestedAbsmax>,
    /// Whether a part had 8-bit scales.
    any_nested: bool,
    filled: Vec<bool>,
    missing: usize,
}

impl Assembly {
    /// A weight `[out, in]` coded as its first part is.
    pub fn new(first: &Quantized4bit, shape: [usize; 2]) -> Result<Self, QuantError> {
        let elements = elements_of(shape)?;
        let blocks = first.blocksize().blocks(elements);
        let nested = match first.absmax() {
            Absmax::Plain(_) => None,
            Absmax::Nested(nested) => Some(NestedAbsmax {
                codes: vec![0; blocks],
                absmax: vec![0.0; blocks.div_ceil(NESTED_BLOCKSIZE)],
                offset: nested.offset,
            }),
        };
        Ok(Self {
            quant_type: first.quant_type(),
            blocksize: first.blocksize(),
            dtype: first.dtype(),
            shape,
            elements,
            packed: vec![0; elements.div_ceil(2)],
            scales: vec![0.0; blocks],
            nested,
            any_nested: false,
            filled: vec![false; blocks],
            missing: blocks,
        })
    }

    fn add_run(
        &mut self,
        weight: &Quantized4bit,
        scales: &[f32],
        at: usize,
        first: usize,
        length: usize,
    ) -> Result<(), AssemblyError> {
        let (size, [rows, columns]) = (self.blocksize.get(), weight.shape());
        let (end, end_there) = (at.saturating_add(length), first.saturating_add(length));
        let is_within = end <= rows * columns && end_there <= self.elements;
        let ends = (end_there == self.elements && end == rows * columns) || length.is_multiple_of(size);
        if !first.is_multiple_of(size) || !at.is_multiple_of(size) || !ends || !is_within {
            return Err(AssemblyError::NotWholeUnits { start: first, end: end_there, unit: size });
        }
        let (to, from, blocks) = (first / size, at / size, length.div_ceil(size));
        self.add_nested(weight, to, from, blocks);
        for block in 0..blocks {
            let bytes = |number: usize| (number + block) * size / 2;
            let count = size.min(length - block * size).div_ceil(2);
            let codes = &weight.packed()[bytes(from)..bytes(from) + count];
            let target = &mut self.packed[bytes(to)..bytes(to) + count];
            let scale = scales[from + block];
            if std::mem::replace(&mut self.filled[to + block], true) {
                if target != codes || self.scales[to + block].to_bits() != scale.to_bits() {
                    return Err(AssemblyError::Conflict);
                }
                continue;
            }
            target.copy_from_slice(codes);
            self.scales[to + block] = scale;
            self.missing -= 1;
        }
        Ok(())
    }

    /// Takes 8-bit scales over, or gives up on them if they begin or end within 256 that share a scale.
    fn add_nested(&mut self, weight: &Quantized4bit, to: usize, from: usize, blocks: usize) {
        let all = self.filled.len();
        let joined = self.nested.as_mut().zip(match weight.absmax() {
            Absmax::Plain(_) => None,
            Absmax::Nested(nested) => Some(nested),
        });
        let aligned = to.is_multiple_of(NESTED_BLOCKSIZE)
            && from.is_multiple_of(NESTED_BLOCKSIZE)
            && (blocks.is_multiple_of(NESTED_BLOCKSIZE)
                || (to + blocks == all && from + blocks == weight.absmax().blocks()));
        match joined {
            Some((target, nested)) if aligned && target.offset.to_bits() == nested.offset.to_bits() => {
                let (groups, to_group, from_group) =
                    (blocks.div_ceil(NESTED_BLOCKSIZE), to / NESTED_BLOCKSIZE, from / NESTED_BLOCKSIZE);
                target.codes[to..to + blocks].copy_from_slice(&nested.codes[from..from + blocks]);
                target.absmax[to_group..to_group + groups]
                    .copy_from_slice(&nested.absmax[from_group..from_group + groups]);
            }
            _ => self.nested = None,
        }
    }
}

impl Assemble for Assembly {
    fn add(&mut self, weight: &QuantWeight, runs: &[(usize, usize, usize)]) -> Result<(), AssemblyError> {
        let weight = weight.table16().ok_or(AssemblyError::OtherScheme)?;
        let coded = (weight.quant_type(), weight.blocksize(), weight.dtype());
        if coded != (self.quant_type, self.blocksize, self.dtype) {
            return Err(AssemblyError::OtherScheme);
        }
        self.any_nested |= matches!(weight.absmax(), Absmax::Nested(_));
        let scales = weight.scales();
        runs.iter().try_for_each(|&(at, first, length)| self.add_run(&weight, &scales, at, first, length))
    }

    /// Short last blocks count in full.
    fn covered(&self) -> usize {
        ((self.filled.len() - self.missing) * self.blocksize.get()).min(self.elements)
    }

    fn is_complete(&self) -> bool {
        self.missing == 0
    }

    fn finish(self: Box<Self>) -> Result<(QuantWeight, bool), QuantError> {
        if !self.is_complete() {
            return Err(QuantError::IncompleteWeight { filled: self.covered(), elements: self.elements });
        }
        let as_they_came = self.nested.is_some() || !self.any_nested;
        let absmax = self.nested.map_or(Absmax::Plain(self.scales), Absmax::Nested);
        let packed = self.packed.into();
        let weight =
            Quantized4bit::from_parts(self.quant_type, self.blocksize, self.shape, self.dtype, packed, absmax)?;
        Ok((weight.into(), as_they_came))
    }
}
