//! Shards as mapped memory, mapped when first needed.

use super::{
    Pages, ShardReader,
    mapped_files::{MappedFile, MappedFiles},
};
use crate::{CheckpointFiles, FileChange, LoadError, files::FileStamp};
use bytes::Bytes;
use memmap2::Mmap;
use std::{collections::BTreeSet, ops::Range, sync::Arc};

/// The shards of a checkpoint.
pub(crate) struct MappedShards<'a> {
    files: &'a CheckpointFiles,
    shards: Vec<Option<MappedShard>>,
    /// Numbers of the shards that parameters stay in.
    kept: BTreeSet<usize>,
}

/// Bytes that the system is asked to read at a time.
#[cfg(unix)]
const READ_AHEAD: usize = 128 << 10;

/// One mapped file. Clones share the mapping, which lives as long as the last of them.
#[derive(Clone)]
pub(crate) struct MappedShard {
    map: SharedMap,
    bytes: Bytes,
    file: Arc<MappedFile>,
}

#[derive(Clone)]
struct SharedMap(Arc<Mmap>);

impl AsRef<[u8]> for SharedMap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> MappedShards<'a> {
    pub fn new(files: &'a CheckpointFiles) -> Self {
        Self { files, shards: vec![None; files.shards().len()], kept: BTreeSet::new() }
    }

    /// Shape of a tensor.
    pub fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.files.tensors().get(tensor).map(|info| info.shape.clone())
    }

    /// The shard of that number, mapped.
    fn shard(&mut self, number: usize) -> Result<MappedShard, LoadError> {
        let stale = || LoadError::StalePlan {
            planned: format!("a checkpoint with more than {number} shard(s)"),
            given: self.files.directory().display().to_string(),
        };
        if let Some(mapped) = self.shards.get(number).ok_or_else(stale)? {
            return Ok(mapped.clone());
        }
        let shard = self.files.shards().get(number).ok_or_else(stale)?;
        let file =
            automodel_config::files::open(&shard.path).map_err(|source| LoadError::io("open", &shard.path, source))?;
        let stamp = FileStamp::of(&file).map_err(|source| LoadError::io("open", &shard.path, source))?;
        if let Some(change) = shard.stamp.change_to(stamp) {
            return Err(LoadError::ShardChanged { file: shard.path.clone(), change });
        }
        // SAFETY: The mapping is read-only. That nobody changes the file meanwhile cannot be enforced by any system call; the
        // documentation of `execute` asks it of the caller, who can look with `MappedFiles::check`, and length and time of
        // modification were just compared with those of the header.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| LoadError::io("map", &shard.path, source))?;
        let (before, now) = (shard.length, map.len() as u64);
        if before != now {
            let change = FileChange::Length { before, now };
            return Err(LoadError::ShardChanged { file: shard.path.clone(), change });
        }
        let file = Arc::new(MappedFile { path: shard.path.clone(), file, stamp });
        let map = SharedMap(Arc::new(map));
        let mapped = MappedShard { bytes: Bytes::from_owner(map.clone()), map, file };
        self.shards[number] = Some(mapped.clone());
        Ok(mapped)
    }

    /// Notes that a parameter stays in a shard.
    pub fn keep(&mut self, number: usize) {
        self.kept.insert(number);
    }

    /// Checks that no mapped shard was changed while it was read, and hands over those that parameters stay in.
    pub fn finish(self) -> Result<MappedFiles, LoadError> {
        self.shards.iter().flatten().try_for_each(|shard| shard.file.check())?;
        let kept = self.kept.iter().filter_map(|&number| self.shards.get(number)?.as_ref());
        Ok(MappedFiles::new(kept.map(|shard| Arc::clone(&shard.file)).collect()))
    }
}

impl ShardReader for MappedShards<'_> {
    fn read(&mut self, number: usize, range: Range<u64>) -> Result<(Bytes, Pages), LoadError> {
        let shard = self.shard(number)?;
        let in_memory = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let length = shard.bytes.len();
        match in_memory.filter(|(start, end)| start <= end && *end <= length) {
            Some((start, end)) => Ok((shard.bytes.slice(start..end), Pages(Some((shard, range))))),
            // Headers are checked against the length that the file had.
            None => {
                let change = FileChange::Length { before: range.end, now: length as u64 };
                Err(LoadError::ShardChanged { file: shard.file.path.clone(), change })
            }
        }
    }
}

impl MappedShard {
    /// Tells the system that `range`, counted from the start of the file, will be read soon, so that the disk works while
    /// other bytes are used. The part after the end of the file is ignored.
    pub fn will_need(&self, range: Range<u64>) {
        #[cfg(unix)]
        if let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) {
            let end = end.min(self.map.0.len());
            // Linux reads no more than its read-ahead, 128 KiB unless it was changed, for each request.
            for start in (start..end).step_by(READ_AHEAD) {
                let length = READ_AHEAD.min(end - start);
                if let Err(error) = self.map.0.advise_range(memmap2::Advice::WillNeed, start, length) {
                    tracing::debug!(%error, "pages of a mapped shard were not asked for in advance");
                    return;
                }
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Gives back the pages of `range`, counted from the start of the file. They are read again if they are needed again.
    pub fn release(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        if let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
            && start < end
            && end <= self.map.0.len()
        {
            // SAFETY: On Linux MADV_DONTNEED on a shared mapping of a file drops page table entries only: the next access
            // reads the same bytes from the file again, so references into the mapping stay valid.
            let advised =
                unsafe { self.map.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
            if let Err(error) = advised {
                tracing::debug!(%error, "pages of a mapped shard were not given back");
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (range, &self.map);
    }
}
