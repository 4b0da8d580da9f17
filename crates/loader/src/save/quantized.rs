//! 4-bit parameters as tensors of files, and parts of fused tensors joined block by block.

use super::{
    layout::{Layout, TensorPiece, TensorPlace},
    shard_file::NewTensor,
};
use crate::{
    LoadError, QuantizationConfig, StoredDtype,
    quantization::{Modules, module_of, quantization_config_json},
};
use automodel_quant::{
    Absmax, Blocksize, NestedAbsmax, QuantType, Quantized4bit, WeightDtype, format::write_parameter,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Scales that share a scale.
const NESTED_BLOCKSIZE: usize = 256;

/// The tensors that were written in 4 bits, by number.
#[derive(Default)]
pub(super) struct WrittenQuantized(BTreeMap<usize, (QuantType, bool)>);

impl WrittenQuantized {
    pub fn insert(&mut self, tensor: usize, weight: &Quantized4bit) {
        self.0.insert(tensor, (weight.quant_type(), matches!(weight.absmax(), Absmax::Nested(_))));
    }

    /// The `quantization_config` for these tensors among those of `layout`; `None` if there are none. Each has its own code
    /// table in its state: the one that is declared is the first.
    pub fn config(&self, layout: &Layout, compute_dtype: WeightDtype) -> Result<Option<Value>, LoadError> {
        let Some((quant_type, _)) = self.0.values().next() else { return Ok(None) };
        let nested = self.0.values().any(|(_, nested)| *nested);
        let (mut quantized, mut dense_linears) = (Vec::new(), Vec::new());
        for (number, tensor) in layout.tensors.iter().enumerate() {
            let name = module_of(&tensor.name).to_owned();
            match self.0.contains_key(&number) {
                true => quantized.push(name),
                false if tensor.may_be_linear => dense_linears.push(name),
                false => {}
            }
        }
        let skip_modules = Modules { quantized, dense_linears, heads: layout.heads.clone() }.skip_list(&[])?;
        let config = QuantizationConfig::new(*quant_type).with_double_quant(nested);
        Ok(Some(quantization_config_json(&config, compute_dtype, skip_modules.as_deref())))
    }
}

/// One piece of a 4-bit parameter and the tensor it goes to.
pub(super) struct Part<'a> {
    pub parameter: &'a str,
    pub tensor: &'a TensorPlace,
    pub piece: &'a TensorPiece,
    pub weight: &'a Quantized4bit,
}

impl Part<'_> {
    /// The tensors to write if the part is a whole tensor.
    pub fn whole(&self) -> Option<Vec<NewTensor>> {
        let place = self.piece.quantized.as_ref()?;
        let whole = self.tensor.pieces == 1 && place.walk.contiguous() == Some(0..self.tensor.elements);
        (whole && place.shape == self.weight.shape()).then(|| tensors(&self.tensor.name, self.weight))
    }

    pub fn refused(&self, reason: String) -> LoadError {
        LoadError::QuantizedPart { parameter: self.parameter.to_owned(), tensor: self.tensor.name.clone(), reason }
    }
}

/// The tensors that bitsandbytes has for a parameter called `name`.
pub(super) fn tensors(name: &str, weight: &Quantized4bit) -> Vec<NewTensor> {
    let dtype = |dtype| if dtype == safetensors::Dtype::F32 { StoredDtype::F32 } else { StoredDtype::U8 };
    let parts = write_parameter(name, weight).into_iter();
    parts.map(|(name, part)| NewTensor { name, dtype: dtype(part.dtype), shape: part.shape, data: part.data }).collect()
}

/// A tensor that several 4-bit parameters fill.
pub(super) struct PendingQuantized {
    quant_type: QuantType,
    blocksize: Blocksize,
    dtype: WeightDtype,
    shape: [usize; 2],
    elements: usize,
    packed: Vec<u8>,
    scales: Vec<f32>,
    /// 8-bit scales, as long as those of all parts can be put one behind the other.
    nested: Option<NestedAbsmax>,
    /// Whether a part had 8-bit scales.
    any_nested: bool,
    filled: Vec<bool>,
    missing: usize,
}

impl PendingQuantized {
    pub fn new(part: &Part<'_>) -> Result<Self, LoadError> {
        let (weight, elements) = (part.weight, part.tensor.elements);
        let Some(place) = &part.piece.quantized else {
            return Err(part.refused("it is seen there through operations that do not keep rows together".into()));
        };
        let blocks = weight.blocksize().blocks(elements);
        let nested = match weight.absmax() {
            Absmax::Plain(_) => None,
            Absmax::Nested(nested) => Some(NestedAbsmax {
                codes: vec![0; blocks],
                absmax: vec![0.0; blocks.div_ceil(NESTED_BLOCKSIZE)],
                offset: nested.offset,
            }),
        };
        Ok(Self {
            quant_type: weight.quant_type(),
            blocksize: weight.blocksize(),
            dtype: weight.dtype(),
            shape: place.shape,
            elements,
            packed: vec![0; elements.div_ceil(2)],
            scales: vec![0.0; blocks],
            nested,
            any_nested: false,
            filled: vec![false; blocks],
            missing: blocks,
        })
    }

    /// Number of elements that came so far, short last blocks counted in full.
    pub fn covered(&self) -> usize {
        ((self.filled.len() - self.missing) * self.blocksize.get()).min(self.elements)
    }

    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Puts the blocks of a part in their places.
    pub fn add(&mut self, part: &Part<'_>) -> Result<(), LoadError> {
        let weight = part.weight;
        let (quant_type, blocksize, dtype) = (weight.quant_type(), weight.blocksize(), weight.dtype());
        if (quant_type, blocksize, dtype) != (self.quant_type, self.blocksize, self.dtype) {
            return Err(part.refused("an earlier part has another code table, block size or dtype".into()));
        }
        let Some(place) = &part.piece.quantized else {
            return Err(part.refused("it is seen there through operations that do not keep rows together".into()));
        };
        self.any_nested |= matches!(weight.absmax(), Absmax::Nested(_));
        let (scales, mut at) = (weight.scales(), part.piece.start);
        place.walk.for_each_run(&mut |first, length| {
            self.add_run(part, &scales, at, first, length)?;
            at += length;
            Ok(())
        })
    }

    /// Puts `length` elements from `at` of the part's weight to `first` of the tensor.
    fn add_run(
        &mut self,
        part: &Part<'_>,
        scales: &[f32],
        at: usize,
        first: usize,
        length: usize,
    ) -> Result<(), LoadError> {
        let (size, [rows, columns]) = (self.blocksize.get(), part.weight.shape());
        let ends = (first + length == self.elements && at + length == rows * columns) || length.is_multiple_of(size);
        if !first.is_multiple_of(size) || !at.is_multiple_of(size) || !ends {
            return Err(
                part.refused(format!("elements {first}..{} there are no whole blocks of {size}", first + length))
            );
        }
        let (to, from, blocks) = (first / size, at / size, length.div_ceil(size));
        self.add_nested(part.weight, to, from, blocks);
        for block in 0..blocks {
            let bytes = |number: usize| (number + block) * size / 2;
            let count = size.min(length - block * size).div_ceil(2);
            let codes = &part.weight.packed()[bytes(from)..bytes(from) + count];
            let target = &mut self.packed[bytes(to)..bytes(to) + count];
            let scale = scales[from + block];
            if std::mem::replace(&mut self.filled[to + block], true) {
                if target != codes || self.scales[to + block].to_bits() != scale.to_bits() {
                    let (parameter, tensor) = (part.parameter.to_owned(), part.tensor.name.clone());
                    return Err(LoadError::ConflictingParameters { parameter, tensor });
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
                || (to + blocks == all && from + blocks == weight.scales().len()));
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

    /// The joined weight, and whether its scales are as they came.
    pub fn finish(self, tensor: &TensorPlace) -> Result<(Quantized4bit, bool), LoadError> {
        let as_they_came = self.nested.is_some() || !self.any_nested;
        let absmax = self.nested.map_or(Absmax::Plain(self.scales), Absmax::Nested);
        let packed = self.packed.into();
        Quantized4bit::from_parts(self.quant_type, self.blocksize, self.shape, self.dtype, packed, absmax)
            .map(|weight| (weight, as_they_came))
            .map_err(|source| LoadError::Unquantizable { tensor: tensor.name.clone(), source: source.into() })
    }
}
