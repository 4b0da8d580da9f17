//! Checkpoints to test with.

use automodel_config::{Overrides, RawConfig};
use automodel_loader::{CheckpointFiles, LoadError, LoadOptions, LoadPlan, LoadReport, LoadedParameters, execute};
use automodel_registry::{
    Registry, ResolveOptions,
    weights::{ParameterRole, ParameterSlot, SourcePiece, WeightMap},
};
use burn::tensor::Device;
use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A tensor to write.
pub struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn f32s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    stored(name, Dtype::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

pub fn bf16s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    stored(name, Dtype::BF16, shape, bytes)
}

pub fn f16s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    stored(name, Dtype::F16, shape, bytes)
}

pub fn stored(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored { name: name.into(), dtype, shape: shape.to_vec(), bytes }
}

/// 0, 1, 2, ...
pub fn counting(elements: usize) -> Vec<f32> {
    (0..elements).map(|value| value as f32).collect()
}

/// Writes one safetensors file with the reference implementation.
pub fn write_file(path: &Path, tensors: &[Stored]) {
    let views = tensors.iter().map(|t| (t.name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize_to_file(views, metadata, path).unwrap();
}

/// Writes `model.safetensors`.
pub fn checkpoint(tensors: &[Stored]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_file(&directory.path().join("model.safetensors"), tensors);
    directory
}

/// Writes shards and an index that names each tensor where it is.
pub fn sharded(shards: &[(&str, Vec<Stored>)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut map = BTreeMap::new();
    for (name, tensors) in shards {
        write_file(&directory.path().join(name), tensors);
        map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), name.to_string())));
    }
    write_index(directory.path(), &map);
    directory
}

pub fn write_index(directory: &Path, map: &BTreeMap<String, String>) {
    let index = serde_json::json!({ "metadata": { "total_size": 0 }, "weight_map": map });
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

pub fn slot(path: &str, shape: &[usize], pieces: Vec<SourcePiece>) -> ParameterSlot {
    ParameterSlot {
        path: path.into(),
        shape: shape.to_vec(),
        role: ParameterRole::Projection,
        keep_float32: false,
        pieces,
    }
}

/// Parameters that are tensors of the same name.
pub fn plain_map(parameters: &[(&str, &[usize])]) -> WeightMap {
    let parameters =
        parameters.iter().map(|(path, shape)| slot(path, shape, vec![SourcePiece::whole(*path, shape)])).collect();
    WeightMap { parameters, ..WeightMap::default() }
}

/// A checkpoint that transformers made, and how its family names and packs parameters.
pub fn fixture(name: &str) -> (PathBuf, WeightMap) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/checkpoints").join(name);
    let map = family_map(&directory);
    (directory, map)
}

/// The weight map of the config in `directory`.
pub fn family_map(directory: &Path) -> WeightMap {
    let registry = Registry::builtin();
    let raw = RawConfig::from_file(&directory.join("config.json")).unwrap();
    let (config, resolution) = registry.resolve_config(&raw, &Overrides::new(), &ResolveOptions::default()).unwrap();
    registry.lower(&config, &resolution).unwrap().weights
}

pub fn options() -> LoadOptions {
    LoadOptions::new(&Device::flex())
}

pub fn load(
    directory: &Path,
    map: &WeightMap,
    options: &LoadOptions,
) -> Result<(LoadedParameters, LoadReport), LoadError> {
    let files = CheckpointFiles::open(directory)?;
    let plan = LoadPlan::new(&files, map, options)?;
    execute(&plan, &files, &options.device, &mut |_| {})
}

pub fn values(parameters: &LoadedParameters, path: &str) -> Vec<f32> {
    let data = parameters.get(path).unwrap().clone().try_into_data().unwrap();
    data.try_cast_as::<f32>().unwrap().try_to_vec::<f32>().unwrap()
}

/// The message of an error with its causes.
pub fn message(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
