//! Where in the tensors of a checkpoint each parameter's elements go.

use crate::{
    LoadError,
    quantization::{cuts::QuantizedPlace, may_be_linear, output_heads},
    strided::Walk,
};
use automodel_registry::weights::{ParameterRole, ParameterSlot, SourcePiece, WeightMap};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The weight map, turned around.
pub(super) struct Layout {
    pub parameters: HashMap<String, ParameterPlace>,
    pub tensors: Vec<TensorPlace>,
    /// Modules of output heads.
    pub heads: BTreeSet<String>,
}

pub(super) struct ParameterPlace {
    pub shape: Vec<usize>,
    pub role: ParameterRole,
    pub keep_float32: bool,
    pub pieces: Vec<TensorPiece>,
}

/// Elements `start..` of a parameter, as many as `walk` has, and where they go.
pub(super) struct TensorPiece {
    pub tensor: usize,
    pub start: usize,
    pub walk: Walk,
    /// The same in the tensor as it is quantised, `[out, in]`, if it can be.
    pub quantized: Option<QuantizedPlace>,
}

pub(super) struct TensorPlace {
    pub name: String,
    pub shape: Vec<usize>,
    pub elements: usize,
    /// How many pieces fill it.
    pub pieces: usize,
    /// Whether transformers may have a linear module for it.
    pub may_be_linear: bool,
}

impl Layout {
    pub fn new(map: &WeightMap) -> Result<Self, LoadError> {
        let mut layout = Self { parameters: HashMap::new(), tensors: Vec::new(), heads: output_heads(map) };
        let mut numbers = HashMap::new();
        for slot in &map.parameters {
            let place = layout.place(slot, &mut numbers)?;
            if layout.parameters.insert(slot.path.clone(), place).is_some() {
                return Err(LoadError::RepeatedParameter { parameter: slot.path.clone() });
            }
        }
        layout.mark_others_than_linear(map);
        Ok(layout)
    }

    /// transformers leaves tied modules dense by default.
    fn mark_others_than_linear(&mut self, map: &WeightMap) {
        let tied: HashSet<&str> = map.ties.iter().flat_map(|tie| [tie.parameter.as_str(), tie.to.as_str()]).collect();
        for slot in &map.parameters {
            let Some(place) = self.parameters.get(&slot.path) else { continue };
            if !may_be_linear(slot.role) || tied.contains(slot.path.as_str()) {
                place.pieces.iter().for_each(|piece| self.tensors[piece.tensor].may_be_linear = false);
            }
        }
    }

    fn place<'a>(
        &mut self,
        slot: &'a ParameterSlot,
        numbers: &mut HashMap<&'a str, usize>,
    ) -> Result<ParameterPlace, LoadError> {
        let mut pieces = Vec::with_capacity(slot.pieces.len());
        let mut start = 0usize;
        for piece in &slot.pieces {
            let tensor = self.tensor(slot, piece, numbers)?;
            let view = piece.strided().map_err(|error| misplaced(slot, &piece.tensor, error.to_string()))?;
            let walk = Walk::new(&view);
            let elements = walk.numel();
            pieces.push(TensorPiece { tensor, start, walk, quantized: QuantizedPlace::of(piece) });
            start = start
                .checked_add(elements)
                .ok_or_else(|| misplaced(slot, &piece.tensor, "too many elements".into()))?;
        }
        if elements(&slot.shape) != Some(start) {
            let reason = format!("its pieces have {start} elements, its shape {:?} has another number", slot.shape);
            return Err(misplaced(slot, slot.pieces.first().map_or("", |piece| &piece.tensor), reason));
        }
        Ok(ParameterPlace { shape: slot.shape.clone(), role: slot.role, keep_float32: slot.keep_float32, pieces })
    }

    fn tensor<'a>(
        &mut self,
        slot: &ParameterSlot,
        piece: &'a SourcePiece,
        numbers: &mut HashMap<&'a str, usize>,
    ) -> Result<usize, LoadError> {
        let number = *numbers.entry(&piece.tensor).or_insert(self.tensors.len());
        if let Some(known) = self.tensors.get_mut(number) {
            if known.shape != piece.tensor_shape {
                let reason =
                    format!("other parameters give it the shape {:?}, this one {:?}", known.shape, piece.tensor_shape);
                return Err(misplaced(slot, &piece.tensor, reason));
            }
            known.pieces += 1;
            return Ok(number);
        }
        let elements = elements(&piece.tensor_shape)
            .ok_or_else(|| misplaced(slot, &piece.tensor, format!("the shape {:?} overflows", piece.tensor_shape)))?;
        let (name, shape) = (piece.tensor.clone(), piece.tensor_shape.clone());
        let may_be_linear = shape.len() == 2 && name.ends_with(".weight");
        self.tensors.push(TensorPlace { name, shape, elements, pieces: 1, may_be_linear });
        Ok(number)
    }

    /// Whether a piece is a whole tensor as it is.
    pub fn is_whole(&self, place: &TensorPiece) -> bool {
        let tensor = &self.tensors[place.tensor];
        tensor.pieces == 1 && place.walk.contiguous() == Some(0..tensor.elements)
    }
}

/// Number of elements; `None` if a product of some of the sizes, as strides are, would overflow.
fn elements(shape: &[usize]) -> Option<usize> {
    let without_empty = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size.max(1)))?;
    without_empty.checked_mul(8)?;
    Some(if shape.contains(&0) { 0 } else { without_empty })
}

fn misplaced(slot: &ParameterSlot, tensor: &str, reason: String) -> LoadError {
    LoadError::Placement { parameter: slot.path.clone(), tensor: tensor.to_owned(), reason }
}
