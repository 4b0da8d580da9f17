//! Names of shards, and the index that says which tensor is in which.

use super::beside::write_json;
use crate::{
    LoadError,
    files::{INDEX_FILE, SINGLE_FILE},
};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The name of a shard, counted from 0, among `total`, as transformers names them.
pub(crate) fn shard_name(number: usize, total: usize) -> String {
    match total {
        1 => SINGLE_FILE.to_owned(),
        _ => format!("model-{:05}-of-{total:05}.safetensors", number + 1),
    }
}

/// Writes the index of several shards: `tensors` with the names of theirs, sorted, and the bytes of all.
pub(crate) fn write_index(
    directory: &Path,
    tensors: impl IntoIterator<Item = (String, String)>,
    total_bytes: u64,
) -> Result<(), LoadError> {
    let weight_map: Map<String, Value> = tensors.into_iter().map(|(name, shard)| (name, shard.into())).collect();
    let index = json!({ "metadata": { "total_size": total_bytes }, "weight_map": weight_map });
    write_json(&directory.join(INDEX_FILE), &index)
}
