//! From a dense checkpoint to a quantised one, tensor by tensor.
//!
//! Nothing is loaded as a model: tensors keep the names they have in the source, projections are quantised on the way and
//! everything else is copied.

mod config;
mod layout;
mod selection;
mod shard;

use crate::{
    CheckpointFiles, LoadError, QuantizationConfig, SaveFiles, Shard,
    save::{
        beside::{check_carried, write_files},
        index::write_index,
        place::{Opened, Place, sync_directory},
        target::Target,
    },
    windows::PlainShards,
};
use automodel_registry::weights::WeightMap;
use layout::Layout;
use selection::Selection;
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// How a quantised checkpoint is to be written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequantizeOptions {
    /// A shard is closed before its tensors exceed this many bytes. A tensor larger than this gets a shard of its own.
    pub max_shard_bytes: u64,
    /// Replace the output directory, with all that is in it, if it holds a checkpoint.
    pub overwrite: bool,
    /// Restart even if an interrupted run could be continued.
    pub restart: bool,
}

impl Default for RequantizeOptions {
    fn default() -> Self {
        Self { max_shard_bytes: crate::save::DEFAULT_MAX_SHARD_BYTES, overwrite: false, restart: false }
    }
}

/// How far quantising from file to file has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequantizeProgress<'a> {
    /// Bytes of the source that are done, those of an interrupted run included.
    pub bytes_done: u64,
    /// Bytes of the source.
    pub bytes_total: u64,
    /// The tensor that was just finished; the last one of a shard that was there already.
    pub tensor: &'a str,
}

/// Result of quantising from file to file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequantizeReport {
    /// Names of the weight files.
    pub shards: Vec<String>,
    /// How many of them were there from an interrupted run.
    pub resumed_shards: usize,
    /// Number of tensors in them.
    pub tensors: usize,
    /// Bytes of all tensors in the source.
    pub source_bytes: u64,
    /// Bytes of all tensors that were written.
    pub total_bytes: u64,
    /// Tensors that were quantised.
    pub quantized: Vec<String>,
    /// Matrices that stayed dense.
    pub dense: Vec<UnquantizedMatrix>,
    /// Oddities that are not errors.
    pub warnings: Vec<String>,
}

/// A matrix of the source that stayed dense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnquantizedMatrix {
    /// Its name.
    pub tensor: String,
    /// Why it was not quantised.
    pub reason: &'static str,
}

/// Writes the checkpoint `files` to `out` with its projections quantised, in the format in which transformers saves models
/// that bitsandbytes quantised.
///
/// A tensor is quantised if every parameter of `map` that reads it is a projection and `config` does not skip it; fused
/// projections are quantised as a whole, if their parts are whole blocks that can be read again, and the `[in, out]` matrices of
/// GPT-2 after transposition, as transformers does.
/// Experts stay dense: transformers joins those of a layer into one parameter of three axes, which bitsandbytes cannot hold.
/// All other tensors are copied byte for byte. `save_files.config`, or the source's config.json if that is `None`, gets the
/// `quantization_config`, whose skip list names the linear modules that are dense beside the head. The dtype in it is not changed.
///
/// Memory: one quantised tensor and two windows of 8 MiB, and for a transposed tensor all of its source too.
///
/// # Interruption
/// Everything is written to the directory `.NAME.partial` beside `out`, and gets its name at the end as in
/// [`crate::save_pretrained`]: a reader sees the whole checkpoint or none. A run that was killed, or stopped by an error of the
/// file system, is continued shard by shard if source and settings are unchanged, and restarted otherwise. The result is
/// the same, byte for byte.
///
/// # Errors
/// [`LoadError::Mismatch`] if the checkpoint does not fit `map`; [`LoadError::AlreadyQuantized`]; [`LoadError::Unquantizable`]
/// for a tensor with NaN or infinity; [`LoadError::ConfigSyntax`]; [`LoadError::OutputExists`], [`LoadError::OutputBusy`];
/// [`LoadError::CarriedFile`]; [`LoadError::ShardChanged`] if a file was written to since its header was read, also while it was
/// read; and [`LoadError::Io`].
pub fn quantize_checkpoint(
    files: &CheckpointFiles,
    map: &WeightMap,
    config: &QuantizationConfig,
    out: &Path,
    options: &RequantizeOptions,
    save_files: &SaveFiles,
    progress: &mut dyn FnMut(RequantizeProgress<'_>),
) -> Result<RequantizeReport, LoadError> {
    check_carried(save_files)?;
    let target = Target::new(out, options.overwrite)?;
    target.check_apart_from(files.directory())?;
    let model_config = config::model_config(files, save_files)?;
    let selection = Selection::new(files, map, config)?;
    let skip_modules = selection.modules.skip_list(&config.skip_modules)?;
    let layout = Layout::new(files, &selection, config, options.max_shard_bytes)?;
    let save_files = SaveFiles {
        config: Some(config::with_quantization(model_config, config.scheme, skip_modules.as_deref())?),
        ..save_files.clone()
    };

    let settings = settings(files, &selection, config, options);
    let place = match Place::open(target, Some(settings), options.restart)? {
        Opened::Ready(place) => place,
        Opened::Finished(directory) => return report(&directory, files, &layout, selection, layout.shards.len()),
    };
    match write(files, config, &layout, &save_files, &place, progress) {
        Ok(resumed) => {
            let report = report(place.staging(), files, &layout, selection, resumed)?;
            place.commit()?;
            Ok(report)
        }
        Err(error) => {
            // A run that a full disk or a lost connection stopped can be continued; other errors would occur again.
            if !matches!(error, LoadError::Io { .. }) {
                place.discard();
            }
            Err(error)
        }
    }
}

/// Writes the missing shards and everything else. Returns how many shards an earlier run had written.
fn write(
    files: &CheckpointFiles,
    config: &QuantizationConfig,
    layout: &Layout<'_>,
    save_files: &SaveFiles,
    place: &Place,
    progress: &mut dyn FnMut(RequantizeProgress<'_>),
) -> Result<usize, LoadError> {
    let (mut source, mut resumed, mut bytes_done) = (PlainShards::new(files), 0, 0u64);
    let bytes_total = files.stored_bytes();
    for planned in &layout.shards {
        let path = place.staging().join(&planned.name);
        let there = CheckpointFiles::open_named(place.staging(), &planned.name);
        if there.is_ok_and(|written| planned.matches(&written)) {
            resumed += 1;
            bytes_done = bytes_done.saturating_add(planned.source_bytes());
            let tensor = planned.groups.last().map_or("", |group| group.source);
            progress(RequantizeProgress { bytes_done, bytes_total, tensor });
            continue;
        }
        shard::write(planned, &path, config, &mut source, &mut |group| {
            bytes_done = bytes_done.saturating_add(group.source_bytes());
            progress(RequantizeProgress { bytes_done, bytes_total, tensor: group.source });
        })?;
        sync_directory(place.staging());
    }
    index(place.staging(), layout)?;
    write_files(place.staging(), save_files)?;
    source.check_unchanged()?;
    Ok(resumed)
}

/// Writes the index of several shards.
fn index(directory: &Path, layout: &Layout<'_>) -> Result<(), LoadError> {
    if layout.shards.len() < 2 {
        return Ok(());
    }
    let (mut tensors, mut total) = (BTreeMap::new(), 0u64);
    for shard in &layout.shards {
        let written = CheckpointFiles::open_named(directory, &shard.name)?;
        total = total.saturating_add(written.stored_bytes());
        tensors.extend(written.tensors().keys().map(|name| (name.clone(), shard.name.clone())));
    }
    write_index(directory, tensors, total)
}

/// All inputs of the result, so that an interrupted run is continued only by the same one.
fn settings(
    files: &CheckpointFiles,
    selection: &Selection<'_>,
    config: &QuantizationConfig,
    options: &RequantizeOptions,
) -> Value {
    let modified = |shard: &Shard| {
        Some(shard.stamp.modified()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos().to_string())
    };
    let shards = files.shards().iter().map(|shard| json!([shard.name, shard.length, modified(shard)]));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "source": std::fs::canonicalize(files.directory()).unwrap_or_else(|_| files.directory().to_owned()),
        "shards": shards.collect::<Vec<_>>(),
        "scheme": config.scheme,
        "quantized": selection.quantized.keys().collect::<Vec<_>>(),
        "max_shard_bytes": options.max_shard_bytes,
    })
}

fn report(
    directory: &Path,
    files: &CheckpointFiles,
    layout: &Layout<'_>,
    selection: Selection<'_>,
    resumed_shards: usize,
) -> Result<RequantizeReport, LoadError> {
    let written = CheckpointFiles::open(directory)?;
    Ok(RequantizeReport {
        shards: layout.shards.iter().map(|shard| shard.name.clone()).collect(),
        resumed_shards,
        tensors: written.tensors().len(),
        source_bytes: files.stored_bytes(),
        total_bytes: written.stored_bytes(),
        quantized: selection.quantized.keys().map(|name| (*name).to_owned()).collect(),
        dense: selection.dense,
        warnings: selection.warnings,
    })
}
