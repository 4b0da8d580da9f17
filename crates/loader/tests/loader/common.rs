//! Checkpoints to test with.

use automodel_config::{Overrides, RawConfig};
use automodel_loader::{CheckpointFiles, LoadError, LoadOptions, LoadPlan, LoadReport, LoadedParameters, execute};
use automodel_registry::{
    Registry, ResolveOptions,
    weights::{ParameterRole, ParameterSlot, SourcePiece, WeightMap},
};
pub use automodel_test_support::checkpoints::{
    Stored, bf16s, counting, f16s, f32s, sharded, stored, unsharded as checkpoint, write_file, write_index,
};
use automodel_test_support::fixtures;
use burn::tensor::Device;
use std::path::{Path, PathBuf};

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
    let directory = fixtures::checkpoint(name);
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
    automodel_test_support::compare::message(error)
}
