//! Which parameters are quantised while they are read.

use super::{PlanSource, ties::Ties};
use crate::{CheckpointFiles, Encoding, LoadError, QuantizationConfig, StoredDtype, quantization::SkipList};
use automodel_quant::format::Companion;
use automodel_registry::weights::{ParameterRole, ParameterSlot};
use burn::tensor::FloatDType;
use std::collections::BTreeSet;

pub(super) const QUANTIZED: &str = "the dtype in the file, which the codes stand for";

/// Decides on one parameter after the other.
pub(super) struct Encoder<'a> {
    wish: Option<(&'a QuantizationConfig, SkipList)>,
    /// Numbers of the skip patterns that matched a module.
    used: BTreeSet<usize>,
    quantized: usize,
    pub warnings: Vec<String>,
}

impl<'a> Encoder<'a> {
    /// # Errors
    /// [`LoadError::SkipModule`].
    pub fn new(wish: Option<&'a QuantizationConfig>, files: &CheckpointFiles) -> Result<Self, LoadError> {
        let mut warnings = Vec::new();
        let wish = match wish {
            Some(config) => {
                let skip = SkipList::parse(&config.skip_modules)?;
                let stored = files
                    .tensors()
                    .keys()
                    .find(|name| matches!(Companion::parse(name), Some((_, Companion::State(_)))));
                match stored {
                    None => Some((config, skip)),
                    Some(state) => {
                        warnings.push(format!(
                            "the checkpoint is quantised already, as tensor `{state}` shows: it is loaded as it is, and \
                             quantising to {} was not done",
                            config.quant_type.name()
                        ));
                        None
                    }
                }
            }
            None => None,
        };
        Ok(Self { wish, used: BTreeSet::new(), quantized: 0, warnings })
    }

    /// How to quantise a parameter of so many elements; `None` if it stays dense.
    pub fn encoding(
        &mut self,
        slot: &ParameterSlot,
        sources: &[PlanSource],
        elements: usize,
        ties: &Ties,
    ) -> Option<Encoding> {
        let (config, skip) = self.wish.as_ref()?;
        let stored = slot.pieces.iter().map(|piece| &piece.tensor).chain(sources.iter().map(|source| &source.tensor));
        let names: BTreeSet<&str> = std::iter::once(&slot.path).chain(stored).map(|name| module_of(name)).collect();
        let skipped: Vec<usize> = names.iter().flat_map(|name| skip.matching(name)).collect();
        self.used.extend(&skipped);
        let projection = match slot.role {
            ParameterRole::Projection | ParameterRole::ExpertProjection => true,
            ParameterRole::OutputHead => config.quantize_head,
            _ => false,
        };
        let possible = projection && slot.shape.len() == 2 && elements > 0;
        if !possible || slot.keep_float32 || ties.involves(&slot.path) || !skipped.is_empty() {
            return None;
        }
        self.quantized += 1;
        let &QuantizationConfig { quant_type, blocksize, double_quant, .. } = *config;
        Some(Encoding { quant_type, blocksize, double_quant, prequantized: false })
    }

    /// What was odd, once all parameters were seen.
    pub fn into_warnings(mut self) -> Vec<String> {
        let Some((config, _)) = self.wish else { return self.warnings };
        if self.quantized == 0 {
            self.warnings.push(format!("no parameter is quantised to {}: all stay dense", config.quant_type.name()));
        }
        let unused = config.skip_modules.iter().enumerate().filter(|(number, _)| !self.used.contains(number));
        self.warnings.extend(unused.map(|(_, pattern)| format!("skip_modules: {pattern:?} matches no module")));
        self.warnings
    }
}

/// The float type that a quantised weight stands for: that of its sources, float32 for wider ones and for mixed ones.
pub(super) fn quantized_dtype(sources: &[PlanSource], widest: StoredDtype) -> FloatDType {
    let uniform = sources.iter().all(|source| source.stored == widest);
    match widest.float() {
        Some(half @ (FloatDType::BF16 | FloatDType::F16)) if uniform => half,
        _ => FloatDType::F32,
    }
}

/// `model.norm` of `model.norm.weight`.
fn module_of(parameter: &str) -> &str {
    [".weight", ".bias"].into_iter().find_map(|field| parameter.strip_suffix(field)).unwrap_or(parameter)
}
