//! One safetensors file that is being written. It begins with room for its header, which is written last and padded with spaces,
//! as the format allows.

use super::beside::fresh_file;
use crate::{LoadError, StoredDtype, files::LENGTH_BYTES};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::{
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Bytes that a header entry needs beside its name and shape: dtype, two offsets of up to 20 digits, punctuation.
const ENTRY_BYTES: u64 = 100;
/// `{"__metadata__":{"format":"pt"}}` and some.
const FRAME_BYTES: u64 = 64;
/// Room for the largest elements, so that tensors can be aligned.
const ALIGNMENT: u64 = 8;

/// A tensor to write.
pub(crate) struct NewTensor {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    pub data: Bytes,
}

/// A file that is being written: a [`Write`] into the tensor that was begun last.
pub(crate) struct ShardFile {
    file: BufWriter<File>,
    path: PathBuf,
    data_start: u64,
    /// Where the next byte goes, from the start of the file.
    position: u64,
    header: Map<String, Value>,
}

impl ShardFile {
    /// Creates the file in place of whatever has the name. `header_room` is the sum of the [`entry_room`]s of its tensors.
    pub fn create(path: PathBuf, header_room: u64) -> Result<Self, LoadError> {
        let file = fresh_file(&path).map_err(|source| LoadError::io("write", &path, source))?;
        let header = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
        let (file, data_start) = (BufWriter::with_capacity(1 << 20, file), data_start(header_room));
        Ok(Self { file, path, data_start, position: 0, header })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where tensors begin, from the start of the file.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Begins a tensor of `bytes` bytes, which are to be written next, `place` bytes behind the header.
    pub fn begin(
        &mut self,
        name: &str,
        dtype: StoredDtype,
        shape: &[usize],
        place: u64,
        bytes: u64,
    ) -> Result<(), LoadError> {
        let end = place.saturating_add(bytes);
        let entry = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [place, end] });
        self.header.insert(name.to_owned(), entry);
        let position = self.data_start + place;
        if position != self.position {
            self.file.seek(SeekFrom::Start(position)).map_err(|source| self.failed(source))?;
            self.position = position;
        }
        Ok(())
    }

    /// Writes a tensor that is in memory.
    pub fn put(&mut self, tensor: &NewTensor, place: u64) -> Result<(), LoadError> {
        self.begin(&tensor.name, tensor.dtype, &tensor.shape, place, tensor.data.len() as u64)?;
        self.write_all(&tensor.data).map_err(|source| self.failed(source))
    }

    /// Writes the header and has all of it on the disk.
    pub fn finish(mut self) -> Result<(), LoadError> {
        self.write_header().map_err(|source| self.failed(source))
    }

    fn write_header(&mut self) -> io::Result<()> {
        let room = self.data_start - LENGTH_BYTES;
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

    /// The error for a write that the system refused.
    pub fn failed(&self, source: io::Error) -> LoadError {
        LoadError::io("write", &self.path, source)
    }
}

impl Write for ShardFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where the tensors of a file begin whose header has so much room.
pub(crate) fn data_start(header_room: u64) -> u64 {
    (LENGTH_BYTES + FRAME_BYTES + header_room).next_multiple_of(ALIGNMENT)
}

/// An upper bound on the bytes of a header entry. Names grow sixfold at most when they are escaped.
pub(crate) fn entry_room(name: &str, shape: &[usize]) -> u64 {
    let escaped = serde_json::to_string(name).map_or(6 * name.len(), |text| text.len());
    ENTRY_BYTES + escaped as u64 + 21 * shape.len() as u64
}
