//! Tensors that several shards hold under one name.

use super::{CheckpointFiles, TensorInfo};
use crate::LoadError;
use std::{
    collections::HashSet,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

/// Bytes that are compared at a time.
const WINDOW: usize = 1 << 20;

/// Takes all but the first of each name out of `tensors`, which are sorted by name and shard.
pub(super) fn take(tensors: &mut Vec<(String, TensorInfo)>) -> Vec<(String, TensorInfo)> {
    if tensors.windows(2).all(|pair| pair[0].0 != pair[1].0) {
        return Vec::new();
    }
    let (mut copies, mut kept) = (Vec::new(), Vec::<(String, TensorInfo)>::with_capacity(tensors.len()));
    for tensor in tensors.drain(..) {
        let known = kept.last().is_some_and(|(name, _)| *name == tensor.0);
        if known { copies.push(tensor) } else { kept.push(tensor) }
    }
    *tensors = kept;
    copies
}

pub(super) fn warning(copies: &[(String, TensorInfo)]) -> Option<String> {
    let (first, _) = copies.first()?;
    Some(format!(
        "{} tensor(s) are in more than one shard, `{first}` first: those that are loaded must be equal",
        copies.len()
    ))
}

impl CheckpointFiles {
    /// Refuses tensors among `needed` of which another shard has a copy of another dtype or shape.
    pub(crate) fn compare_headers_of_copies(&self, needed: &HashSet<&str>) -> Result<(), LoadError> {
        let alike = |a: &TensorInfo, b: &TensorInfo| a.dtype == b.dtype && a.shape == b.shape;
        for (tensor, copy) in self.copies.iter().filter(|(name, _)| needed.contains(name.as_str())) {
            if let Some(first) = self.tensors.get(tensor).filter(|first| !alike(first, copy)) {
                return Err(self.duplicate(tensor, first, copy));
            }
        }
        Ok(())
    }

    /// Refuses needed tensors of which another shard has a copy with other bytes: which of them is meant, nothing tells.
    pub(crate) fn compare_copies(&self, needed: impl Fn(&str) -> bool) -> Result<(), LoadError> {
        for (tensor, copy) in self.copies.iter().filter(|(name, _)| needed(name)) {
            let Some(first) = self.tensors.get(tensor) else { continue };
            if first.dtype != copy.dtype || first.shape != copy.shape || !self.same_bytes(first, copy)? {
                return Err(self.duplicate(tensor, first, copy));
            }
        }
        Ok(())
    }

    fn same_bytes(&self, a: &TensorInfo, b: &TensorInfo) -> Result<bool, LoadError> {
        let (mut a, mut b) = (self.reader(a)?, self.reader(b)?);
        let (mut left, mut right) = (vec![0; WINDOW], vec![0; WINDOW]);
        loop {
            let read = fill(&mut a.0, &mut left).map_err(|source| LoadError::io("read", &a.1, source))?;
            let other = fill(&mut b.0, &mut right).map_err(|source| LoadError::io("read", &b.1, source))?;
            if left[..read] != right[..other] {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
        }
    }

    /// The bytes of a tensor, and the path of its file.
    fn reader(&self, info: &TensorInfo) -> Result<(impl Read, std::path::PathBuf), LoadError> {
        let path = self.shards.get(info.shard).map(|shard| shard.path.clone()).unwrap_or_default();
        let open = || -> io::Result<_> {
            let mut file = automodel_config::files::open(&path)?;
            file.seek(SeekFrom::Start(info.range.start))?;
            Ok(BufReader::new(file.take(info.range.end - info.range.start)))
        };
        match open() {
            Ok(reader) => Ok((reader, path)),
            Err(source) => Err(LoadError::io("open", &path, source)),
        }
    }

    fn duplicate(&self, tensor: &str, first: &TensorInfo, second: &TensorInfo) -> LoadError {
        let held_by =
            |info: &TensorInfo| self.shards.get(info.shard).map(|shard| shard.name.clone()).unwrap_or_default();
        LoadError::DuplicateTensor { tensor: tensor.to_owned(), first: held_by(first), second: held_by(second) }
    }
}

/// Reads until `buffer` is full or the end comes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
