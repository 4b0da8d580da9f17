//! Which tensors are quantised, and why the others are not.

use super::{
    DenseMatrix,
    skip::{Modules, may_be_linear, output_heads},
};
use crate::{
    CheckpointFiles, LoadError, LoadOptions, LoadPlan, PlanRow, PlanSource, QuantizationConfig, TensorInfo,
    quantization::{
        SkipList,
        parts::{JOINED, NO_MATRIX, UNCLEAR, check_parts, orientation},
    },
};
use automodel_quant::format::Companion;
use automodel_registry::weights::{ParameterRole, SourcePiece, WeightMap};
use burn::tensor::Device;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The decision on every tensor of a checkpoint.
pub(super) struct Selection<'a> {
    /// Tensors that are quantised, and how.
    pub quantized: BTreeMap<&'a str, Target>,
    /// Matrices that are not.
    pub dense: Vec<DenseMatrix>,
    /// Modules of dense matrices that could be linear modules to transformers.
    dense_linears: Vec<String>,
    /// Names in the weight map of tensors that the files have without a prefix.
    bare: HashMap<&'a str, String>,
    pub warnings: Vec<String>,
}

/// A matrix as it is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `[out, in]`
    pub shape: [usize; 2],
    /// The tensor is stored `[in, out]`.
    pub transposed: bool,
}

const TIED: &str = "it is tied or can be";
const SKIPPED: &str = "its module is skipped";
const UNREAD: &str = "no parameter of the model reads it";
const EXPERT: &str =
    "an expert: transformers joins experts into one parameter of three axes, which bitsandbytes cannot hold";

/// A parameter and how it reads a tensor.
type Reader<'p> = (&'p PlanRow, &'p PlanSource);

impl<'a> Selection<'a> {
    pub fn new(files: &'a CheckpointFiles, map: &WeightMap, config: &QuantizationConfig) -> Result<Self, LoadError> {
        refuse_quantized(files)?;
        let skip = SkipList::parse(&config.skip_modules)?;
        // The plan checks names and shapes; the device does not matter.
        let plan = LoadPlan::new(files, map, &LoadOptions::new(&Device::flex()))?;
        let mut readers: HashMap<&str, Vec<Reader<'_>>> = HashMap::new();
        for row in &plan.rows {
            for source in &row.sources {
                readers.entry(&source.tensor).or_default().push((row, source));
            }
        }
        files.compare_copies(|tensor| readers.contains_key(tensor))?;
        let tied: HashSet<&str> = plan.ties.iter().flat_map(|tie| [tie.parameter.as_str(), tie.to.as_str()]).collect();
        let mut selection = Self {
            quantized: BTreeMap::new(),
            dense: Vec::new(),
            dense_linears: Vec::new(),
            bare: bare_names(files, map, &plan),
            warnings: files.warnings().to_vec(),
        };
        let mut used = HashSet::new();
        for (name, info) in files.tensors() {
            let readers = readers.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            let names = selection.module_names(name, readers);
            let entries: Vec<usize> = names.iter().flat_map(|module| skip.matching(module)).collect();
            let skipped = !entries.is_empty();
            used.extend(entries);
            match decide(name, info, readers, &tied, skipped, config) {
                Ok(target) => {
                    selection.quantized.insert(name, target);
                }
                Err(reason) if info.shape.len() == 2 && info.dtype.float().is_some() => {
                    selection.dense.push(DenseMatrix { tensor: name.clone(), reason });
                    if reason != TIED && readers.iter().all(|(row, _)| may_be_linear(row.role)) {
                        selection.dense_linears.extend(name.ends_with(".weight").then(|| selection.canonical(name)));
                    }
                }
                Err(_) => {}
            }
        }
        for (_, pattern) in config.skip_modules.iter().enumerate().filter(|(number, _)| !used.contains(number)) {
            selection.warnings.push(format!("skip_modules: {pattern:?} matches no module"));
        }
        if selection.quantized.is_empty() {
            selection.warnings.push("no tensor is quantised: the result is as large as the source".into());
        }
        Ok(selection)
    }

    /// What goes into the skip list.
    pub fn modules(&self, map: &WeightMap) -> Modules {
        Modules {
            quantized: self.quantized.keys().map(|name| self.canonical(name)).collect(),
            dense_linears: self.dense_linears.clone(),
            heads: output_heads(map),
        }
    }

    /// All names that a tensor's module goes by: in the files, in the weight map, in the model.
    fn module_names(&self, tensor: &str, readers: &[Reader<'_>]) -> Vec<String> {
        let mut names = vec![module(tensor).to_owned(), self.canonical(tensor)];
        names.extend(readers.iter().map(|(row, _)| module(&row.parameter).to_owned()));
        names
    }

    /// The name in transformers of a tensor's module: files of a bare base model lack a prefix that modules have.
    fn canonical(&self, tensor: &str) -> String {
        module(self.bare.get(tensor).map_or(tensor, String::as_str)).to_owned()
    }
}

/// A tensor's name without its last part.
pub(crate) fn module(tensor: &str) -> &str {
    tensor.strip_suffix(".weight").unwrap_or(tensor)
}

fn bare_names<'a>(files: &'a CheckpointFiles, map: &WeightMap, plan: &LoadPlan) -> HashMap<&'a str, String> {
    let Some((prefix, _)) = plan.renamed.iter().find(|(_, to)| to.is_empty()) else { return HashMap::new() };
    let known: HashSet<&str> = map.parameters.iter().flat_map(|slot| &slot.pieces).map(|p| p.tensor.as_str()).collect();
    let full = files.tensors().keys().map(|name| (name.as_str(), format!("{prefix}{name}")));
    full.filter(|(_, full)| known.contains(full.as_str())).collect()
}

fn refuse_quantized(files: &CheckpointFiles) -> Result<(), LoadError> {
    let state = |name: &&String| matches!(Companion::parse(name), Some((_, Companion::State(_))));
    match files.tensors().keys().find(state) {
        None => Ok(()),
        Some(name) => Err(LoadError::AlreadyQuantized {
            directory: files.directory().to_owned(),
            evidence: format!("it has the tensor `{name}`"),
        }),
    }
}

fn decide(
    name: &str,
    info: &TensorInfo,
    readers: &[Reader<'_>],
    tied: &HashSet<&str>,
    skipped: bool,
    config: &QuantizationConfig,
) -> Result<Target, &'static str> {
    if readers.is_empty() {
        return Err(UNREAD);
    }
    if let Some(reason) = readers.iter().find_map(|(row, _)| reason_of_role(row.role, config.quantize_head)) {
        return Err(reason);
    }
    if readers.iter().any(|(row, _)| tied.contains(row.parameter.as_str())) {
        return Err(TIED);
    }
    let [rows, columns] = info.shape[..] else { return Err(NO_MATRIX) };
    if rows == 0 || columns == 0 || !name.ends_with(".weight") || readers.iter().any(|(row, _)| row.shape.len() != 2) {
        return Err(NO_MATRIX);
    }
    if skipped {
        return Err(SKIPPED);
    }
    if readers.iter().any(|(row, _)| row.sources.len() > 1) {
        return Err(JOINED);
    }
    let parts = readers.iter().map(|(_, source)| SourcePiece::view("", &info.shape, source.ops.clone()));
    check_parts(&parts.collect::<Vec<_>>(), config.blocksize)?;
    let transposed = orientation(&readers[0].1.ops).ok_or(UNCLEAR)?;
    Ok(Target { shape: if transposed { [columns, rows] } else { [rows, columns] }, transposed })
}

fn reason_of_role(role: ParameterRole, quantize_head: bool) -> Option<&'static str> {
    match role {
        ParameterRole::Projection => None,
        ParameterRole::OutputHead if quantize_head => None,
        ParameterRole::ExpertProjection => Some(EXPERT),
        ParameterRole::Embedding | ParameterRole::PositionEmbedding => Some("an embedding"),
        ParameterRole::Router => Some("a router"),
        ParameterRole::OutputHead => Some("the output head"),
        _ => Some("no projection"),
    }
}
