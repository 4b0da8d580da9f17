//! Checkpoints in temporary directories: written from values, or copied from a fixture and damaged.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A tensor to write.
pub struct Stored {
    /// Its name in the file.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Elements along each axis.
    pub shape: Vec<usize>,
    /// The elements, little-endian and row-major.
    pub bytes: Vec<u8>,
}

/// A tensor of bytes that are already in order.
pub fn stored(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored { name: name.into(), dtype, shape: shape.to_vec(), bytes }
}

/// A float32 tensor.
pub fn f32s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    stored(name, Dtype::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A bfloat16 tensor; values are rounded to nearest even.
pub fn bf16s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    stored(name, Dtype::BF16, shape, bytes)
}

/// A float16 tensor; values are rounded to nearest even.
pub fn f16s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    stored(name, Dtype::F16, shape, bytes)
}

/// 0, 1, 2, ...
pub fn counting(elements: usize) -> Vec<f32> {
    (0..elements).map(|value| value as f32).collect()
}

/// Writes one safetensors file with the reference implementation, with the metadata that transformers writes.
pub fn write_file(path: &Path, tensors: &[Stored]) {
    let views = tensors.iter().map(|t| (t.name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize_to_file(views, metadata, path).unwrap();
}

/// A directory with `model.safetensors`.
pub fn unsharded(tensors: &[Stored]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_file(&directory.path().join("model.safetensors"), tensors);
    directory
}

/// A directory with shards and an index that names each tensor where it is.
pub fn sharded(shards: &[(&str, Vec<Stored>)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut map = BTreeMap::new();
    for (name, tensors) in shards {
        write_file(&directory.path().join(name), tensors);
        map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), name.to_string())));
    }
    write_index(directory.path(), &map);
    directory
}

/// Writes an index: the shard of each tensor.
pub fn write_index(directory: &Path, map: &BTreeMap<String, String>) {
    let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map });
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// A copy of a directory's files, without the reference, to be changed.
pub fn copy_of_directory(directory: &Path) -> TempDir {
    let target = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_name() != "reference.safetensors" {
            fs::copy(entry.path(), target.path().join(entry.file_name())).unwrap();
        }
    }
    target
}

/// Changes the JSON file `name` in `directory`.
pub fn edit_json(directory: &Path, name: &str, edit: impl FnOnce(&mut Value)) {
    let path = directory.join(name);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Tensors by name: dtype, shape, bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// All tensors of a safetensors file.
pub fn read_tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let entries = tensors.iter();
    entries.map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

/// Changes the tensors of `model.safetensors` in `directory`; the file written has no metadata.
pub fn edit_tensors(directory: &Path, edit: impl FnOnce(&mut Tensors)) {
    let path = directory.join("model.safetensors");
    let mut tensors = read_tensors(&path);
    edit(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize_to_file(views, None, &path).unwrap();
}
