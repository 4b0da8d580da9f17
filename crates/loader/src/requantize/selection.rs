//! Which tensors are quantised, and the modules that config.json must list.

use super::UnquantizedMatrix;
use crate::{
    CheckpointFiles, LoadError, LoadOptions, LoadPlan, QuantizationConfig,
    plan::Resolved,
    quantization::{Matrix, Modules, Selector, TIED, may_be_linear, module_of, output_heads, quantized_tensor},
};
use automodel_registry::weights::WeightMap;
use burn::tensor::Device;
use std::collections::BTreeMap;

/// The decision on every tensor of a checkpoint.
pub(super) struct Selection<'a> {
    /// Tensors that are quantised, and how.
    pub quantized: BTreeMap<&'a str, Matrix>,
    /// Matrices that are not.
    pub dense: Vec<UnquantizedMatrix>,
    /// All linear modules.
    pub modules: Modules,
    pub warnings: Vec<String>,
}

impl<'a> Selection<'a> {
    pub fn new(files: &'a CheckpointFiles, map: &WeightMap, config: &QuantizationConfig) -> Result<Self, LoadError> {
        if let Some(tensor) = quantized_tensor(files) {
            let evidence = format!("it has the tensor `{tensor}`");
            return Err(LoadError::AlreadyQuantized { directory: files.directory().to_owned(), evidence });
        }
        let checkpoint = Resolved::new(files, map);
        let selector = Selector::new(config, &checkpoint)?;
        // The plan checks names and shapes; the device does not matter.
        LoadPlan::new(files, map, &LoadOptions::new(&Device::flex()))?;
        files.compare_copies(|tensor| !selector.readers(tensor).is_empty())?;
        // Files of a bare base model lack a prefix that modules have.
        let bare = checkpoint.names.renamed.iter().find(|(_, to)| to.is_empty()).map(|(prefix, _)| prefix.as_str());
        let canonical = |tensor: &str| {
            let full = bare.map(|prefix| format!("{prefix}{tensor}"));
            let known = full.filter(|full| selector.readers(tensor).iter().any(|reader| reader.piece.tensor == *full));
            module_of(known.as_deref().unwrap_or(tensor)).to_owned()
        };
        let (mut quantized, mut dense) = (BTreeMap::new(), Vec::new());
        let mut modules = Modules { quantized: Vec::new(), dense_linears: Vec::new(), heads: output_heads(map) };
        for (name, info) in files.tensors() {
            match selector.in_files(name, info) {
                Ok(matrix) => {
                    quantized.insert(name.as_str(), matrix);
                    modules.quantized.push(canonical(name));
                }
                Err(reason) if info.shape.len() == 2 && info.dtype.float().is_some() => {
                    dense.push(UnquantizedMatrix { tensor: name.clone(), reason });
                    let linear = selector.readers(name).iter().all(|reader| may_be_linear(reader.slot.role));
                    if reason != TIED && linear && name.ends_with(".weight") {
                        modules.dense_linears.push(canonical(name));
                    }
                }
                Err(_) => {}
            }
        }
        let mut warnings: Vec<String> = files.warnings().iter().cloned().chain(selector.warnings()).collect();
        if quantized.is_empty() {
            warnings.push("no tensor is quantised: the result is as large as the source".into());
        }
        Ok(Self { quantized, dense, modules, warnings })
    }
}
