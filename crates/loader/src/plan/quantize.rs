//! Which parameters are quantised while they are read.

use super::{FloatPart, Resolved};
use crate::{
    CheckpointFiles, LoadError, QuantizationConfig,
    dtype::weight_dtype,
    quantization::{Chosen, Dense, Selector, quantized_tensor},
};
use automodel_quant::WeightDtype;
use automodel_registry::weights::ParameterSlot;
use std::collections::{BTreeMap, HashMap};

pub(super) const QUANTIZED: &str = "the dtype in the file, which the codes stand for";

/// Which parameters are quantised, and how.
#[derive(Default)]
pub(super) struct Choices {
    chosen: HashMap<String, Chosen>,
    pub warnings: Vec<String>,
}

impl Choices {
    /// Decides on all parameters of a checkpoint.
    ///
    /// # Errors
    /// [`LoadError::SkipModule`].
    pub fn new(
        config: Option<&QuantizationConfig>,
        files: &CheckpointFiles,
        checkpoint: &Resolved<'_>,
    ) -> Result<Self, LoadError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let selector = Selector::new(config, checkpoint)?;
        let mut choices = Self::default();
        if let Some(tensor) = quantized_tensor(files) {
            choices.warnings.push(format!(
                "the checkpoint is quantised already, as tensor `{tensor}` shows: it is loaded as it is, and quantising to {} \
                 was not done",
                config.scheme.name()
            ));
            return Ok(choices);
        }
        let mut apart: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for slot in &checkpoint.map.parameters {
            match selector.in_model(checkpoint, slot) {
                Ok(chosen) => {
                    choices.chosen.insert(slot.path.clone(), chosen);
                }
                Err(Dense::Tensor(reason)) => apart.entry(reason).or_insert((0, &slot.path)).0 += 1,
                Err(Dense::Parameter) => {}
            }
        }
        choices.warnings.extend(apart.into_iter().map(|(reason, (count, first))| {
            format!(
                "{count} parameter(s) stay dense, `{first}` first, because the tensor that they are read from cannot be \
                 quantised as a whole: {reason}"
            )
        }));
        if choices.chosen.is_empty() {
            let name = config.scheme.name();
            choices.warnings.push(format!("no parameter is quantised to {name}: all stay dense"));
        }
        choices.warnings.extend(selector.warnings());
        Ok(choices)
    }

    /// How to quantise a parameter; `None` if it stays dense.
    pub fn of(&self, slot: &ParameterSlot) -> Option<&Chosen> {
        self.chosen.get(&slot.path)
    }
}

/// The float type that a quantised weight stands for: that of its parts, float32 for wider ones and for mixed ones.
pub(super) fn quantized_dtype(parts: &[FloatPart]) -> WeightDtype {
    let Some(first) = parts.first().filter(|first| parts.iter().all(|part| part.dtype == first.dtype)) else {
        return WeightDtype::Float32;
    };
    weight_dtype(first.dtype)
}
