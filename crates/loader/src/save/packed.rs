//! Quantised parameters as tensors of files, and parts of fused tensors put together.

use super::{
    layout::{Layout, TensorPiece, TensorPlace},
    shard_file::NewTensor,
};
use crate::{
    LoadError, StoredDtype,
    quantization::{Modules, cuts::QuantizedPlace, declaration, module_of},
};
use automodel_quant::{Assembly, AssemblyError, QuantError, QuantWeight, Scheme, WeightDtype, files};
use serde_json::Value;
use std::collections::BTreeMap;

/// The tensors that were written quantised, by number.
#[derive(Default)]
pub(super) struct WrittenQuantized(BTreeMap<usize, Scheme>);

impl WrittenQuantized {
    pub fn insert(&mut self, tensor: usize, weight: &QuantWeight) {
        self.0.insert(tensor, weight.scheme());
    }

    /// The `quantization_config` for these tensors among those of `layout`; `None` if there are none. Each has its own scheme in
    /// its tensors: the one that is declared is the first.
    pub fn config(&self, layout: &Layout, compute_dtype: WeightDtype) -> Result<Option<Value>, LoadError> {
        let Some(first) = self.0.values().next() else { return Ok(None) };
        let scheme = first.with_double_quant(self.0.values().any(|scheme| scheme.is_joint()));
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
        declaration(scheme, compute_dtype, skip_modules.as_deref()).map(Some)
    }
}

/// One piece of a quantised parameter and the tensor it goes to.
pub(super) struct Part<'a> {
    pub parameter: &'a str,
    pub tensor: &'a TensorPlace,
    pub piece: &'a TensorPiece,
    pub weight: &'a QuantWeight,
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

    /// Where runs of the weight go: from, to, length.
    fn runs(&self, place: &QuantizedPlace) -> Vec<(usize, usize, usize)> {
        let unit = self.weight.scheme().unit(self.weight.shape());
        let (mut runs, mut at) = (Vec::new(), self.piece.start);
        for run in place.walk.runs() {
            runs.push((at, run.start, run.len()));
            at += run.len();
            // An end within a unit is refused, whatever follows.
            if !run.len().is_multiple_of(unit) {
                break;
            }
        }
        runs
    }
}

/// The tensors of a quantised parameter called `name`.
pub(super) fn tensors(name: &str, weight: &QuantWeight) -> Vec<NewTensor> {
    let parts = files::write(name, weight).into_iter();
    parts
        .map(|(name, part)| {
            let dtype = StoredDtype::from_safetensors(part.dtype).unwrap_or(StoredDtype::U8);
            NewTensor { name, dtype, shape: part.shape, data: part.data }
        })
        .collect()
}

/// A tensor that several quantised parameters fill.
pub(super) struct PendingQuantized(Assembly);

impl PendingQuantized {
    pub fn new(part: &Part<'_>) -> Result<Self, LoadError> {
        let Some(place) = &part.piece.quantized else { return Err(apart(part)) };
        let refused = |source: QuantError| unquantizable(part.tensor, source);
        Ok(Self(Assembly::new(part.weight, place.shape).map_err(refused)?))
    }

    /// Number of elements that came so far, short last blocks counted in full.
    pub fn covered(&self) -> usize {
        self.0.covered()
    }

    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Puts a part in its place.
    pub fn add(&mut self, part: &Part<'_>) -> Result<(), LoadError> {
        let Some(place) = &part.piece.quantized else { return Err(apart(part)) };
        self.0.add(part.weight, &part.runs(place)).map_err(|error| match error {
            AssemblyError::Conflict => {
                let (parameter, tensor) = (part.parameter.to_owned(), part.tensor.name.clone());
                LoadError::ConflictingParameters { parameter, tensor }
            }
            other => part.refused(other.to_string()),
        })
    }

    /// The joined weight, and whether its scales are as they came.
    pub fn finish(self, tensor: &TensorPlace) -> Result<(QuantWeight, bool), LoadError> {
        self.0.finish().map_err(|source| unquantizable(tensor, source))
    }
}

fn apart(part: &Part<'_>) -> LoadError {
    part.refused("it is seen there through operations that do not keep rows together".into())
}

fn unquantizable(tensor: &TensorPlace, source: QuantError) -> LoadError {
    LoadError::Unquantizable { tensor: tensor.name.clone(), source: source.into() }
}
