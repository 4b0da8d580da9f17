//! The weight files of a checkpoint, written front to back without knowing beforehand what they will hold.

use super::{
    index::{shard_name, write_index},
    shard_file::{NewTensor, ShardFile, entry_room},
};
use crate::{LoadError, StoredDtype};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Tensors that a 4-bit parameter has beside its codes, and bytes that their names have more than its own.
const COMPANIONS: u64 = 5;
const SUFFIX_BYTES: u64 = 32;
/// Positions that are multiples of this suit every dtype.
const ALIGNMENT: u64 = 8;

/// The weight files of one checkpoint.
pub(super) struct Shards {
    directory: PathBuf,
    max_bytes: u64,
    /// Room for the headers of all tensors that are still to come.
    header_room: u64,
    /// Room for what 4-bit parameters have beside their codes, until it is part of `header_room`.
    companion_room: Option<u64>,
    current: Option<OpenShard>,
    closed: usize,
    written: BTreeMap<String, Written>,
}

struct OpenShard {
    file: ShardFile,
    /// Bytes of the tensors that have a place.
    bytes: u64,
    /// Tensors that come last.
    waiting: Vec<NewTensor>,
}

/// Where a tensor was written.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub dtype: StoredDtype,
    shard: usize,
    /// From the start of the file.
    start: u64,
    bytes: u64,
}

impl Shards {
    /// `tensors`: names and shapes of all that may be written. `quantized`: 4-bit parameters will be among them.
    pub fn new<'a>(
        directory: &Path,
        max_bytes: u64,
        quantized: bool,
        tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Self {
        let (mut header_room, mut companion_room) = (0, 0);
        for (name, shape) in tensors {
            header_room += entry_room(name, shape);
            companion_room += if shape.len() == 2 { COMPANIONS * (entry_room(name, shape) + SUFFIX_BYTES) } else { 0 };
        }
        let companion_room = if quantized {
            header_room += companion_room;
            None
        } else {
            Some(companion_room)
        };
        let (current, closed, written) = (None, 0, BTreeMap::new());
        Self { directory: directory.to_owned(), max_bytes, header_room, companion_room, current, closed, written }
    }

    /// Appends a tensor of `bytes` bytes, which `write` delivers.
    pub fn append(
        &mut self,
        name: &str,
        dtype: StoredDtype,
        shape: &[usize],
        bytes: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), LoadError> {
        let number = self.closed_for(bytes)?;
        let shard = self.open()?;
        let start = shard.begin(name, dtype, shape, bytes)?;
        write(&mut shard.file).map_err(|source| shard.file.failed(source))?;
        self.written.insert(name.to_owned(), Written { dtype, shard: number, start, bytes });
        self.header_room = self.header_room.saturating_sub(entry_room(name, shape));
        Ok(())
    }

    /// Appends tensors that belong together to one shard. Those whose lengths would leave later tensors unaligned, short ones
    /// as a rule, wait for its end.
    pub fn append_together(&mut self, tensors: Vec<NewTensor>) -> Result<(), LoadError> {
        let room: u64 = tensors.iter().map(|tensor| entry_room(&tensor.name, &tensor.shape)).sum();
        if let Some(room) = self.companion_room.take() {
            // None was left in the header of a shard that is open.
            self.close()?;
            self.header_room = self.header_room.saturating_add(room);
        }
        let bytes = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.data.len() as u64));
        let number = self.closed_for(bytes)?;
        self.open()?;
        let Some(shard) = &mut self.current else { return Ok(()) };
        for tensor in tensors {
            let (dtype, bytes) = (tensor.dtype, tensor.data.len() as u64);
            // A tensor that waits has no place yet; nothing reads it back before the end.
            let (name, start) = (tensor.name.clone(), shard.file.data_start() + shard.bytes);
            if bytes.is_multiple_of(ALIGNMENT) {
                shard.put(&tensor)?;
            } else {
                shard.waiting.push(tensor);
            }
            self.written.insert(name, Written { dtype, shard: number, start, bytes });
        }
        self.header_room = self.header_room.saturating_sub(room);
        Ok(())
    }

    /// Closes the current shard if so many bytes more would be too many. Returns the number of the one to write to.
    fn closed_for(&mut self, bytes: u64) -> Result<usize, LoadError> {
        let full = |shard: &OpenShard| shard.bytes() > 0 && shard.bytes().saturating_add(bytes) > self.max_bytes;
        if self.current.as_ref().is_some_and(full) {
            self.close()?;
        }
        Ok(self.closed)
    }

    fn open(&mut self) -> Result<&mut OpenShard, LoadError> {
        let shard = match self.current.take() {
            Some(shard) => shard,
            None => OpenShard::create(self.partial_path(self.closed), self.header_room)?,
        };
        Ok(self.current.insert(shard))
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
        for number in 0..total {
            let (from, to) = (self.partial_path(number), self.directory.join(shard_name(number, total)));
            fs::rename(&from, &to).map_err(|source| LoadError::io("rename", &from, source))?;
        }
        let total_bytes = self.written.values().map(|written| written.bytes).sum();
        if total > 1 {
            let shard_of = |(tensor, written): (&String, &Written)| (tensor.clone(), shard_name(written.shard, total));
            write_index(&self.directory, self.written.iter().map(shard_of), total_bytes)?;
        }
        let names = (0..total).map(|number| shard_name(number, total)).collect();
        Ok((names, total_bytes, self.written.len()))
    }

    fn close(&mut self) -> Result<(), LoadError> {
        if let Some(shard) = self.current.take() {
            shard.close()?;
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
        Ok(Self { file: ShardFile::create(path, header_room)?, bytes: 0, waiting: Vec::new() })
    }

    /// Bytes of all tensors, those that wait included.
    fn bytes(&self) -> u64 {
        self.waiting.iter().fold(self.bytes, |sum, tensor| sum.saturating_add(tensor.data.len() as u64))
    }

    /// Begins a tensor behind the others. Returns where it is in the file.
    fn begin(&mut self, name: &str, dtype: StoredDtype, shape: &[usize], bytes: u64) -> Result<u64, LoadError> {
        let place = self.bytes;
        self.file.begin(name, dtype, shape, place, bytes)?;
        self.bytes = place.saturating_add(bytes);
        Ok(self.file.data_start() + place)
    }

    fn put(&mut self, tensor: &NewTensor) -> Result<(), LoadError> {
        self.begin(&tensor.name, tensor.dtype, &tensor.shape, tensor.data.len() as u64)?;
        self.file.write_all(&tensor.data).map_err(|source| self.file.failed(source))
    }

    fn close(mut self) -> Result<(), LoadError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bits()));
        waiting.iter().try_for_each(|tensor| self.put(tensor))?;
        self.file.finish()
    }
}
