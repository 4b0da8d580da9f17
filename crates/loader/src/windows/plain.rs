//! Shards read into memory: for work that takes long, while which files must not be mapped.

use super::{Pages, ShardReader};
use crate::{CheckpointFiles, LoadError, Shard, files::FileStamp};
use bytes::{Bytes, BytesMut};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
};

/// The files, of which one is open at a time.
pub(crate) struct PlainShards<'a> {
    files: &'a CheckpointFiles,
    open: Option<(usize, File)>,
    /// The last window, whose memory the next one takes if nobody reads it any more.
    last: Bytes,
}

impl ShardReader for PlainShards<'_> {
    fn read(&mut self, shard: usize, range: Range<u64>) -> Result<(Bytes, Pages), LoadError> {
        // It was checked against the length of the file when the header was read.
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut window = std::mem::take(&mut self.last).try_into_mut().unwrap_or_default();
        if window.capacity() / 2 > length {
            window = BytesMut::new();
        }
        window.resize(length, 0);
        self.fill(shard, range.start, &mut window)?;
        self.last = window.freeze();
        Ok((self.last.clone(), Pages::default()))
    }
}

impl<'a> PlainShards<'a> {
    pub fn new(files: &'a CheckpointFiles) -> Self {
        Self { files, open: None, last: Bytes::new() }
    }

    /// Checks that every file is still what it was when its header was read: a tensor that was read while another process wrote
    /// to its file may be a mixture of old and new.
    pub fn check_unchanged(&self) -> Result<(), LoadError> {
        if let Some((shard, file)) = &self.open {
            self.check_open(*shard, file)?;
        }
        self.files.shards().iter().try_for_each(|described| {
            let stamp =
                FileStamp::at(&described.path).map_err(|source| LoadError::io("inspect", &described.path, source))?;
            compare(described, stamp)
        })
    }

    fn check_open(&self, shard: usize, file: &File) -> Result<(), LoadError> {
        let Some(described) = self.files.shards().get(shard) else { return Ok(()) };
        let stamp = FileStamp::of(file).map_err(|source| LoadError::io("inspect", &described.path, source))?;
        compare(described, stamp)
    }

    /// Fills `target` from byte `at` of a shard.
    fn fill(&mut self, shard: usize, at: u64, target: &mut [u8]) -> Result<(), LoadError> {
        let Some(described) = self.files.shards().get(shard) else { return Ok(()) };
        let failed = |action: &'static str| move |source| LoadError::io(action, &described.path, source);
        let file = match self.open.take() {
            Some((open, file)) if open == shard => file,
            before => {
                // The file may have another name by now, or none.
                if let Some((shard, file)) = before {
                    self.check_open(shard, &file)?;
                }
                let file = automodel_config::files::open(&described.path).map_err(failed("open"))?;
                self.check_open(shard, &file)?;
                file
            }
        };
        let (_, file) = self.open.insert((shard, file));
        file.seek(SeekFrom::Start(at)).map_err(failed("read"))?;
        file.read_exact(target).map_err(failed("read"))
    }
}

fn compare(described: &Shard, now: FileStamp) -> Result<(), LoadError> {
    match described.stamp.change_to(now) {
        Some(change) => Err(LoadError::ShardChanged { file: described.path.clone(), change }),
        None => Ok(()),
    }
}
