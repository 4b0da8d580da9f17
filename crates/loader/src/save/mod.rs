//! From parameters back to a directory in Hugging Face layout.

pub(crate) mod beside;
pub(crate) mod index;
mod layout;
mod packed;
mod pending;
pub(crate) mod place;
pub(crate) mod shard_file;
mod shards;
pub(crate) mod target;
mod writer;

pub use target::check_output;
pub use writer::CheckpointWriter;

use crate::{LoadError, Overflow};
use automodel_quant::Scheme;
use automodel_registry::weights::WeightMap;
use burn::tensor::{FloatDType, TensorData};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// transformers' default, in its decimal gigabytes.
pub(crate) const DEFAULT_MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// How a checkpoint is to be written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SaveOptions {
    /// A shard is closed before its tensors exceed this many bytes. A tensor larger than this gets a shard of its own.
    pub max_shard_bytes: u64,
    /// Dtype in the files; `None`: that of the values. Parameters that the map keeps in float32 are not narrowed.
    pub dtype: Option<FloatDType>,
    /// Replace the directory, with all that is in it, if it holds a checkpoint.
    pub overwrite: bool,
    /// The scheme of quantised parameters, for which headers then have room. Without it they may begin a new shard.
    pub quantized: Option<Scheme>,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { max_shard_bytes: DEFAULT_MAX_SHARD_BYTES, dtype: None, overwrite: false, quantized: None }
    }
}

/// Files beside the weights.
#[derive(Clone, Debug, Default)]
pub struct SaveFiles {
    /// Contents of `config.json`.
    pub config: Option<serde_json::Value>,
    /// Contents of `generation_config.json`.
    pub generation_config: Option<serde_json::Value>,
    /// Files to copy under their own names: tokenizer files, chat templates, licence. Those of a folder
    /// `additional_chat_templates` go to a folder of that name.
    pub copies: Vec<PathBuf>,
}

/// Result of saving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SaveReport {
    /// Names of the weight files.
    pub shards: Vec<String>,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub total_bytes: u64,
    /// Parameters that were not written because they are tied: (parameter, the one whose values it has).
    pub tied: Vec<(String, String)>,
    /// Parameters with finite values beyond the range of the dtype in which they were written (beyond 65504 in float16), as
    /// which they are infinite, as torch makes them. A warning says so too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overflowed: Vec<Overflow>,
    /// Oddities that are not errors.
    pub warnings: Vec<String>,
}

/// Writes `parameters`, which must be all of `map`, and `files` to `directory`, and puts each part where the checkpoint
/// layout of `map` has it: the inverse of loading. Parameters are taken from the iterator one at a time.
///
/// Everything is written to the directory `.NAME.partial` beside `directory`, and gets its name at the end: a reader sees the
/// whole checkpoint or none. One that is replaced stays until then, and on Linux and macOS the two exchange their names in one
/// call, so that the name leads to the old checkpoint or the new one even if the process is killed. What a killed process
/// left is removed by the next one that saves to the same directory.
///
/// # Errors
/// [`LoadError::OutputExists`] if something is in the way, and the errors of [`CheckpointWriter::write`] and
/// [`CheckpointWriter::finish`]. Nothing is left behind.
pub fn save_pretrained(
    directory: &Path,
    parameters: impl IntoIterator<Item = (String, TensorData)>,
    map: &WeightMap,
    options: &SaveOptions,
    files: &SaveFiles,
) -> Result<SaveReport, LoadError> {
    let mut writer = CheckpointWriter::new(directory, map, options)?;
    for (path, values) in parameters {
        writer.write(&path, &values)?;
    }
    writer.finish(files)
}
