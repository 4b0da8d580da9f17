//! safetensors files that are written front to back, without knowing beforehand what they will hold.

use crate::LoadError;
use burn::tensor::FloatDType;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Bytes that a header entry needs beside its name and shape: dtype, two offsets of up to 20 digits, punctuation.
const ENTRY_BYTES: u64 = 100;
/// `{"__metadata__":{"format":"pt"}}` and some.
const FRAME_BYTES: u64 = 64;

/// The weight files of one checkpoint. Each starts with room for its header, which is written last and padded with spaces,
/// as the format allows.
pub(super) struct Shards {
    directory: PathBuf,
    max_bytes: u64,
    /// Room for the headers of all tensors that are still to come.
    header_room: u64,
    current: Option<OpenShard>,
    closed: usize,
    written: BTreeMap<String, Written>,
}

struct OpenShard {
    file: BufWriter<File>,
    path: PathBuf,
    data_start: u64,
    bytes: u64,
    header: Map<String, Value>,
}

/// Where a tensor was written.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub dtype: FloatDType,
    shard: usize,
    /// From the start of the file.
    start: u64,
    bytes: u64,
}

impl Shards {
    /// `tensors`: names and shapes of all that may be written.
    pub fn new<'a>(directory: &Path, max_bytes: u64, tensors: impl Iterator<Item = (&'a str, &'a [usize])>) -> Self {
        let header_room = tensors.map(|(name, shape)| entry_room(name, shape)).sum();
        let (current, closed, written) = (None, 0, BTreeMap::new());
        Self { directory: directory.to_owned(), max_bytes, header_room, current, closed, written }
    }

    /// Appends a tensor of `bytes` bytes, which `write` delivers.
    pub fn append(
        &mut self,
        name: &str,
        dtype: FloatDType,
        shape: &[usize],
        bytes: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), LoadError> {
        if self
            .current
            .as_ref()
            .is_some_and(|shard| shard.bytes > 0 && shard.bytes.saturating_add(bytes) > self.max_bytes)
        {
            self.close()?;
        }
        let number = self.closed;
        let shard = match self.current.take() {
            Some(shard) => shard,
            None => OpenShard::create(self.partial_path(number), self.header_room)?,
        };
        let shard = self.current.insert(shard);
        write(&mut shard.file).map_err(|source| LoadError::io("write", &shard.path, source))?;
        let (begin, end) = (shard.bytes, shard.bytes.saturating_add(bytes));
        let entry = json!({ "dtype": stored_name(dtype), "shape": shape, "data_offsets": [begin, end] });
        shard.header.insert(name.to_owned(), entry);
        shard.bytes = end;
        let start = shard.data_start + begin;
        self.written.insert(name.to_owned(), Written { dtype, shard: number, start, bytes });
        self.header_room = self.header_room.saturating_sub(entry_room(name, shape));
        Ok(())
    }

    /// Where a tensor was written, if it was.
    pub fn written(&self, name: &str) -> Option<Written> {
        self.written.get(name).copied()
    }

    /// Opens a tensor that was written for reading.
    pub fn read_back(&mut self, written: Written) -> Result<impl Read + use<>, LoadError> {
        let path = self.partial_path(written.shard);
        let failed = |source| LoadError::io("read", &path, source);
        if let Some(shard) = &mut self.current {
            shard.file.flush().map_err(failed)?;
        }
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(written.start)).map_err(failed)?;
        Ok(io::BufReader::new(file.take(written.bytes)))
    }

    /// Closes the last shard, gives all shards their names and writes the index if there are several. Returns the names of
    /// the shards and the bytes of all tensors.
    pub fn finish(mut self) -> Result<(Vec<String>, u64, usize), LoadError> {
        if self.current.is_none() && self.closed == 0 {
            self.current = Some(OpenShard::create(self.partial_path(0), 0)?);
        }
        self.close()?;
        let total = self.closed;
        let name = |number: usize| match total {
            1 => crate::files::SINGLE_FILE.to_owned(),
            _ => format!("model-{:05}-of-{total:05}.safetensors", number + 1),
        };
        for number in 0..total {
            let (from, to) = (self.partial_path(number), self.directory.join(name(number)));
            fs::rename(&from, &to).map_err(|source| LoadError::io("rename", &from, source))?;
        }
        let total_bytes = self.written.values().map(|written| written.bytes).sum();
        if total > 1 {
            let weight_map: Map<String, Value> =
                self.written.iter().map(|(tensor, written)| (tensor.clone(), name(written.shard).into())).collect();
            let index = json!({ "metadata": { "total_size": total_bytes }, "weight_map": weight_map });
            super::directory::write_json(&self.directory.join(crate::files::INDEX_FILE), &index)?;
        }
        Ok(((0..total).map(name).collect(), total_bytes, self.written.len()))
    }

    fn close(&mut self) -> Result<(), LoadError> {
        if let Some(shard) = self.current.take() {
            let path = shard.path.clone();
            shard.close().map_err(|source| LoadError::io("write", &path, source))?;
            self.closed += 1;
        }
        Ok(())
    }

    fn partial_path(&self, number: usize) -> PathBuf {
        self.directory.join(format!("shard-{number}.partial"))
    }
}

impl OpenShard {
    fn create(path: PathBuf, header_room: u64) -> Result<Self, LoadError> {
        let failed = |source| LoadError::io("write", &path, source);
        let data_start = (8 + FRAME_BYTES + header_room).next_multiple_of(8);
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&path).map_err(failed)?);
        file.seek(SeekFrom::Start(data_start)).map_err(failed)?;
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({ "format": "pt" }));
        Ok(Self { file, path, data_start, bytes: 0, header })
    }

    fn close(mut self) -> io::Result<()> {
        let room = self.data_start - 8;
        let mut text = serde_json::to_vec(&self.header)?;
        if text.len() as u64 > room {
            return Err(io::Error::other("the header is longer than the room that was left for it"));
        }
        text.resize(room as usize, b' ');
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&room.to_le_bytes())?;
        self.file.write_all(&text)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

/// An upper bound on the bytes of a header entry. Names grow sixfold at most when they are escaped.
fn entry_room(name: &str, shape: &[usize]) -> u64 {
    let escaped = serde_json::to_string(name).map_or(6 * name.len(), |text| text.len());
    ENTRY_BYTES + escaped as u64 + 21 * shape.len() as u64
}

fn stored_name(dtype: FloatDType) -> &'static str {
    match dtype {
        FloatDType::F64 => "F64",
        FloatDType::F32 | FloatDType::Flex32 => "F32",
        FloatDType::F16 => "F16",
        FloatDType::BF16 => "BF16",
    }
}
