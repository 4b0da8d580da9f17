//! One shard, written under a temporary name and given its own at the end.

use super::{
    layout::{Group, PlannedShard},
    source::Source,
};
use crate::{LoadError, QuantizationConfig, save::directory::fresh_file};
use automodel_quant::format::write_parameter;
use serde_json::{Map, Value, json};
use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

/// Writes `shard` to `path` and calls `done` after each tensor of the source.
pub(super) fn write(
    shard: &PlannedShard<'_>,
    path: &Path,
    config: &QuantizationConfig,
    source: &mut Source<'_>,
    done: &mut dyn FnMut(&Group<'_>),
) -> Result<(), LoadError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let failed = |source| LoadError::io("write", partial, source);
    let mut file = ShardFile {
        file: fresh_file(partial).map_err(failed)?,
        data_start: shard.data_start,
        header: Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]),
        states: Vec::new(),
    };
    for group in &shard.groups {
        match group.target {
            None => {
                let Some(tensor) = group.tensors.first() else { continue };
                let mut at = tensor.place.unwrap_or_default();
                file.describe(&tensor.name, tensor.dtype.name(), &tensor.shape, at, tensor.bytes);
                source.copy(group.info, |window| {
                    file.put(at, window).map_err(failed)?;
                    at += window.len() as u64;
                    Ok(())
                })?;
            }
            Some(target) => {
                let quantized = source.quantize(group.source, group.info, target, config)?;
                for (planned, (name, tensor)) in group.tensors.iter().zip(write_parameter(group.source, &quantized)) {
                    match planned.place {
                        Some(place) => {
                            let length = tensor.data.len() as u64;
                            file.describe(&name, planned.dtype.name(), &tensor.shape, place, length);
                            file.put(place, &tensor.data).map_err(failed)?;
                        }
                        None => file.states.push((name, tensor.data.to_vec())),
                    }
                }
            }
        }
        done(group);
    }
    file.finish(shard.fixed_bytes).map_err(failed)?;
    fs::rename(partial, path).map_err(|source| LoadError::io("rename", partial, source))
}

struct ShardFile {
    file: File,
    data_start: u64,
    header: Map<String, Value>,
    /// Quantisation states, which come last.
    states: Vec<(String, Vec<u8>)>,
}

impl ShardFile {
    fn describe(&mut self, name: &str, dtype: &str, shape: &[usize], at: u64, length: u64) {
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + length] });
        self.header.insert(name.to_owned(), entry);
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.data_start + at))?;
        self.file.write_all(bytes)
    }

    /// Writes states and header and has all of it on the disk.
    fn finish(mut self, mut at: u64) -> io::Result<()> {
        for (name, json) in std::mem::take(&mut self.states) {
            self.describe(&name, "U8", &[json.len()], at, json.len() as u64);
            self.put(at, &json)?;
            at += json.len() as u64;
        }
        let room = self.data_start - crate::files::LENGTH_BYTES;
        let text = crate::save::shards::padded_header(&self.header, room)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&room.to_le_bytes())?;
        self.file.write_all(&text)?;
        self.file.sync_all()
    }
}
