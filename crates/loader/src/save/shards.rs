//! The weight files of a checkpoint, written front to back without knowing beforehand what they will hold.

use super::{
    index::{shard_name, write_index},
    shard_file::{NewTensor, ShardFile, entry_room},
};
use crate::{LoadError, StoredDtype};
use automodel_quant::{Scheme, WeightDtype, files};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Positions that are multiples of this suit every dtype.
const ALIGNMENT: u64 = 8;

/// The weight files of one checkpoint.
pub(super) struct Shards {
    directory: PathBuf,
    max_bytes: u64,
    /// Room for the header entries of all tensors that are still to come.
    header_room: u64,
    /// Tensors that may be quantised, until it is known in which scheme and room for that is part of `header_room`.
    matrices: Vec<(String, [usize; 2])>,
    current: Option<OpenShard>,
    closed: usize,
    written: BTreeMap<String, Written>,
}

struct OpenShard {
    file: ShardFile,
    /// Room that its header has left.
    header_room: u64,
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
    /// `tensors`: names and shapes of all that may be written. `quantized`: the scheme that some of them will be in.
    pub fn new<'a>(
        directory: &Path,
        max_bytes: u64,
        quantized: Option<Scheme>,
        tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Self {
        let (mut header_room, mut matrices) = (0, Vec::new());
        for (name, shape) in tensors {
            header_room += entry_room(name, shape);
            if let Ok(shape) = <[usize; 2]>::try_from(shape) {
                matrices.push((name.to_owned(), shape));
            }
        }
        let (current, closed, written) = (None, 0, BTreeMap::new());
        let mut shards =
            Self { directory: directory.to_owned(), max_bytes, header_room, matrices, current, closed, written };
        shards.make_room(quantized);
        shards
    }

    /// Has room in later headers for the tensors that quantised matrices have more than dense ones.
    fn make_room(&mut self, quantized: Option<Scheme>) {
        let Some(scheme) = quantized else { return };
        for (name, shape) in std::mem::take(&mut self.matrices) {
            let tensors = files::planned(&name, scheme, shape, WeightDtype::Float32).unwrap_or_default();
            let room = tensors.iter().map(|tensor| entry_room(&tensor.header.name, &tensor.header.shape)).sum();
            self.header_room = self.header_room.saturating_add(room);
        }
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
        let room = entry_room(name, shape);
        let (number, shard) = self.open(bytes, room)?;
        let start = shard.begin(name, dtype, shape, bytes)?;
        write(&mut shard.file).map_err(|source| shard.file.failed(source))?;
        self.written.insert(name.to_owned(), Written { dtype, shard: number, start, bytes });
        self.header_room = self.header_room.saturating_sub(room);
        Ok(())
    }

    /// Appends tensors that belong together to one shard. Those whose lengths would leave later tensors unaligned, short ones
    /// as a rule, wait for its end.
    pub fn append_together(&mut self, scheme: Scheme, tensors: Vec<NewTensor>) -> Result<(), LoadError> {
        self.make_room(Some(scheme));
        let room: u64 = tensors.iter().map(|tensor| entry_room(&tensor.name, &tensor.shape)).sum();
        let bytes = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.data.len() as u64));
        let (number, shard) = self.open(bytes, room)?;
        let mut written = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let (dtype, bytes) = (tensor.dtype, tensor.data.len() as u64);
            // A tensor that waits has no place yet; nothing reads it back before the end.
            let (name, start) = (tensor.name.clone(), shard.file.data_start() + shard.bytes);
            if bytes.is_multiple_of(ALIGNMENT) {
                shard.put(&tensor)?;
            } else {
                shard.waiting.push(tensor);
            }
            written.push((name, Written { dtype, shard: number, start, bytes }));
        }
        self.written.extend(written);
        self.header_room = self.header_room.saturating_sub(room);
        Ok(())
    }

    /// The shard for tensors of so many bytes, whose header entries need `room`, and its number: the current one, or a new one where they
    /// would be too many.
    fn open(&mut self, bytes: u64, room: u64) -> Result<(usize, &mut OpenShard), LoadError> {
        let full = |shard: &OpenShard| {
            let too_large = shard.bytes() > 0 && shard.bytes().saturating_add(bytes) > self.max_bytes;
            too_large || shard.header_room < room
        };
        if self.current.as_ref().is_some_and(full) {
            self.close()?;
        }
        let mut shard = match self.current.take() {
            Some(shard) => shard,
            None => OpenShard::create(self.partial_path(self.closed), self.header_room.max(room))?,
        };
        shard.header_room -= room;
        Ok((self.closed, self.current.insert(shard)))
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
        Ok(Self { file: ShardFile::create(path, header_room)?, header_room, bytes: 0, waiting: Vec::new() })
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
