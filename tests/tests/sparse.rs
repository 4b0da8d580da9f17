//! Checkpoints of any size that occupy no disk: a header, and a hole of the length that it promises.

use automodel::config::{Overrides, RawConfig};
use automodel::registry::weights::WeightMap;
use automodel::registry::{Registry, ResolveOptions};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

/// A checkpoint without bytes.
pub struct SparseCheckpoint {
    directory: TempDir,
}

impl SparseCheckpoint {
    /// All tensors that the config's weight map names, in bfloat16, in one file. A tied head is left out, as transformers
    /// does.
    pub fn of_config(config: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(config, directory.path().join("config.json")).unwrap();
        let map = weight_map(config);
        let tied: HashMap<&str, bool> = map.ties.iter().map(|tie| (tie.parameter.as_str(), tie.requested)).collect();
        let mut tensors = BTreeMap::new();
        for slot in map.parameters.iter().filter(|slot| tied.get(slot.path.as_str()) != Some(&true)) {
            tensors.extend(slot.pieces.iter().map(|piece| (piece.tensor.as_str(), piece.tensor_shape.as_slice())));
        }
        write(&directory.path().join("model.safetensors"), &tensors);
        Self { directory }
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }
}

/// The weight map of a config file.
pub fn weight_map(config: &Path) -> WeightMap {
    let raw = RawConfig::from_file(config).unwrap();
    let registry = Registry::builtin();
    let defaults = registry.class_defaults(&raw).unwrap();
    let config = raw.resolve(defaults, &Overrides::new()).unwrap();
    let resolution = registry.resolve(&config, &ResolveOptions::default()).unwrap();
    registry.lower(&config, &resolution).unwrap().weights
}

fn write(path: &Path, tensors: &BTreeMap<&str, &[usize]>) {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().map(|&size| size as u64).product::<u64>();
        header.insert((*name).to_owned(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}
