//! What would be loaded, for people and programs to read.

use crate::{Prepared, cache, describe};
use automodel_hub::Checkpoint;
use automodel_loader::{CheckpointFiles, LoadPlan, StoredDtype};
use automodel_registry::Resolution;
use automodel_registry::spec::ModelSpec;
use burn::tensor::FloatDType;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// What would be loaded and why.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Directory of the files.
    pub directory: PathBuf,
    /// Commit, for a repo.
    pub commit: Option<String>,
    /// The weights are not on this machine: config and headers were read from the server, and the directory was a temporary one.
    pub headers_only: bool,
    /// Which implementation supports the config, and why.
    pub resolution: Resolution,
    /// The attention backend.
    pub attention: String,
    /// Why that one.
    pub attention_reason: String,
    /// Number of parameters, tied ones counted once.
    pub parameters: u64,
    /// Bytes in the files by dtype, of the tensors that are read.
    pub stored_bytes: BTreeMap<String, u64>,
    /// Tensors of the files that the model does not read, those of a vision tower for instance.
    pub unread_tensors: usize,
    /// Their bytes.
    pub unread_bytes: u64,
    /// The larger model that the loaded one is a part of.
    pub larger_model: Option<LargerModel>,
    /// Bytes on the device by dtype.
    pub target_bytes: BTreeMap<String, u64>,
    /// Bytes on the device that stay in the mapped files.
    pub mapped_bytes: u64,
    /// Predicted peak of host memory while loading, in bytes.
    pub peak_bytes: u64,
    /// Bytes of KV cache for each token of context beyond any window, in the dtype of the activations; 0 where every
    /// layer has a window.
    pub cache_bytes_per_token: Option<u64>,
    /// The most bytes that the KV cache of one sequence ever takes, where every layer has a window.
    pub cache_bytes_at_most: Option<u64>,
    /// Why weights get another dtype than they are stored in.
    pub dtype_reasons: Vec<String>,
    /// The layers; runs of equal layers are one row.
    pub layers: Vec<LayerSummary>,
    /// What was odd but no error.
    pub warnings: Vec<String>,
    /// The plan, row by row.
    #[serde(skip)]
    pub plan: LoadPlan,
    /// Config, choice and mathematics.
    #[serde(skip)]
    pub prepared: Prepared,
    /// Keeps the directory where that is a temporary one.
    #[serde(skip)]
    #[expect(dead_code, reason = "its drop removes a temporary directory")]
    checkpoint: Checkpoint,
}

/// A model of several parts, of which the text model is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LargerModel {
    /// Its `model_type`.
    pub model_type: Option<String>,
    /// The key of the loaded part in its config: `text_config`.
    pub loaded: String,
    /// What stays in the files, by the modules that the tensors belong to.
    pub not_loaded: Vec<UnreadModule>,
}

/// Tensors of one module that are not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadModule {
    /// Its name in the files: `vision_tower`.
    pub name: String,
    /// Number of its tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl LargerModel {
    fn of(prepared: &Prepared, unread: BTreeMap<&str, (usize, u64)>) -> Option<Self> {
        let composite = prepared.lowered.composite.as_ref()?;
        let loaded = composite.parts.iter().find(|part| part.loaded)?.key.clone();
        let module = |(name, (tensors, bytes)): (&str, _)| UnreadModule { name: name.to_owned(), tensors, bytes };
        Some(Self {
            model_type: composite.model_type.clone(),
            loaded,
            not_loaded: unread.into_iter().map(module).collect(),
        })
    }
}

/// The module that a tensor of a larger model belongs to: the first name of its path, but for what stands before all of them.
fn module_of(tensor: &str) -> &str {
    let path = tensor.strip_prefix("model.").unwrap_or(tensor);
    path.split_once('.').map_or(path, |(module, _)| module)
}

/// A run of equal layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerSummary {
    /// Index of the first.
    pub first: usize,
    /// Index of the last.
    pub last: usize,
    /// Heads, grouping, window.
    pub mixer: String,
    /// Kind and width.
    pub mlp: String,
    /// Kind and place of the norms.
    pub norms: String,
}

impl Summary {
    pub(crate) fn new(checkpoint: &Checkpoint, prepared: Prepared, files: &CheckpointFiles, plan: LoadPlan) -> Self {
        let spec = prepared.lowered.spec.as_ref();
        let mut stored_bytes: BTreeMap<&str, u64> = BTreeMap::new();
        let ignored = plan.ignored.iter().map(|(tensor, _)| tensor);
        let unread: HashSet<&str> = plan.unexpected.iter().chain(ignored).map(String::as_str).collect();
        let mut unread_bytes = 0_u64;
        let mut modules: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for (name, tensor) in files.tensors() {
            let bytes = tensor.range.end - tensor.range.start;
            match unread.contains(name.as_str()) {
                true => {
                    unread_bytes = unread_bytes.saturating_add(bytes);
                    let (tensors, sum) = modules.entry(module_of(name)).or_default();
                    *tensors += 1;
                    *sum = sum.saturating_add(bytes);
                }
                false => *stored_bytes.entry(tensor.dtype.name()).or_default() += bytes,
            }
        }
        let larger_model = LargerModel::of(&prepared, modules);
        let cache_bytes_per_token = spec.map(|spec| cache::cache_bytes_per_token(spec, &plan));
        let at_most = spec.filter(|_| cache_bytes_per_token == Some(0));
        let cache_bytes_at_most = at_most.map(|spec| cache::cache_bytes(spec, &plan, usize::MAX));
        let mut target_bytes: BTreeMap<FloatDType, u64> = BTreeMap::new();
        let mut reasons = BTreeMap::new();
        let mut parameters = 0;
        for row in plan.rows.iter().filter(|row| row.tied_to().is_none()) {
            *target_bytes.entry(row.target()).or_default() += row.bytes();
            parameters += row.shape().iter().map(|&size| size as u64).product::<u64>();
            if row.stored().float() != Some(row.target()) {
                *reasons.entry((row.stored(), row.target(), row.reason())).or_insert(0_usize) += 1;
            }
        }
        let mut warnings: Vec<_> = prepared.config.warnings().iter().map(ToString::to_string).collect();
        warnings.extend(plan.warnings.iter().cloned());
        Self {
            directory: checkpoint.dir.clone(),
            commit: checkpoint.commit.clone(),
            headers_only: checkpoint.headers_only,
            resolution: prepared.resolution.clone(),
            attention: prepared.attention.backend.to_string(),
            attention_reason: prepared.attention.reason.clone(),
            parameters,
            stored_bytes: stored_bytes.into_iter().map(|(dtype, bytes)| (dtype.to_owned(), bytes)).collect(),
            unread_tensors: unread.len(),
            unread_bytes,
            larger_model,
            target_bytes: target_bytes.into_iter().map(|(dtype, bytes)| (format!("{dtype:?}"), bytes)).collect(),
            mapped_bytes: plan.mapped_bytes,
            peak_bytes: plan.peak_bytes,
            cache_bytes_per_token,
            cache_bytes_at_most,
            dtype_reasons: describe_changes(reasons),
            layers: spec.map(layers).unwrap_or_default(),
            warnings,
            plan,
            prepared,
            checkpoint: checkpoint.clone(),
        }
    }
}

impl Summary {
    /// Bytes of the KV cache of one sequence at a context of `positions`, in the dtype of the activations: layers
    /// with a window keep that and a little room. `None` where a custom implementation keeps its mathematics to itself.
    ///
    /// ```
    /// let summary = automodel::AutoModelForCausalLM::from_pretrained("demo").inspect()?;
    /// // 3 layers, keys and values, 2 heads of 32, float32.
    /// assert_eq!(summary.cache_bytes(10), Some(3 * 2 * 2 * 32 * 4 * 10));
    /// # Ok::<(), automodel::AutoModelError>(())
    /// ```
    pub fn cache_bytes(&self, positions: usize) -> Option<u64> {
        let spec = self.prepared.lowered.spec.as_ref()?;
        Some(cache::cache_bytes(spec, &self.plan, positions))
    }
}

fn describe_changes(counts: BTreeMap<(StoredDtype, FloatDType, &str), usize>) -> Vec<String> {
    let describe = |((stored, target, reason), count): ((StoredDtype, FloatDType, &str), usize)| {
        (format!("{} to {target:?}: {reason}", stored.name()), count)
    };
    let by_text: BTreeMap<String, usize> = counts.into_iter().map(describe).collect();
    by_text.into_iter().map(|(change, count)| format!("{count} parameters, {change}")).collect()
}

/// The layers in words; runs of equal layers are one row.
pub(crate) fn layers(spec: &ModelSpec) -> Vec<LayerSummary> {
    let mut rows: Vec<LayerSummary> = Vec::new();
    for (index, layer) in spec.backbone.layers.iter().enumerate() {
        let row = LayerSummary {
            first: index,
            last: index,
            mixer: describe::listed(layer.mixers().map(describe::mixer)),
            mlp: describe::listed(describe::feed_forwards(layer)),
            norms: describe::norms(layer),
        };
        match rows.last_mut() {
            Some(last) if (&last.mixer, &last.mlp, &last.norms) == (&row.mixer, &row.mlp, &row.norms) => {
                last.last = index
            }
            _ => rows.push(row),
        }
    }
    rows
}
