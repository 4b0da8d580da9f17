//! A watch over files that weights stay in.

use crate::{LoadError, files::FileStamp};
use std::{fs::File, path::PathBuf, sync::Arc};

/// The files that loaded parameters are mapped from, kept open. Clones share them.
///
/// Nothing keeps another process from changing such a file: pages of a truncated one end this process with SIGBUS when they
/// are read, and one that is overwritten in place has silently other weights. [`check`](Self::check) tells before they are
/// used. It looks at the files that were mapped, not at what their paths lead to now: renaming another file over one of
/// them, as downloads and [`crate::save_pretrained`] do, or deleting it, changes nothing here.
///
/// ```
/// use automodel_loader::{CheckpointFiles, LoadError, LoadPlan, execute};
/// use burn::tensor::Device;
///
/// fn run(plan: &LoadPlan, files: &CheckpointFiles, device: &Device) -> Result<(), LoadError> {
///     let (loaded, _) = execute(plan, files, device, &mut |_| {})?;
///     let mapped = loaded.mapped_files().clone();
///     // Hours later, before the parameters are used again:
///     mapped.check()
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MappedFiles {
    files: Vec<Arc<MappedFile>>,
}

/// One mapped file.
#[derive(Debug)]
pub(super) struct MappedFile {
    pub path: PathBuf,
    /// The very file that is mapped, whatever its path leads to meanwhile.
    pub file: File,
    pub stamp: FileStamp,
}

impl MappedFiles {
    pub(super) fn new(files: Vec<Arc<MappedFile>>) -> Self {
        Self { files }
    }

    /// Compares length and time of modification of every file with what they were before it was mapped: one `fstat` each.
    /// A change through another writable mapping may show with delay, and one within the clock tick of the file system
    /// (some milliseconds) in which the file was last written before may not show at all.
    ///
    /// # Errors
    /// [`LoadError::MappedFileChanged`] names the first file that was changed; [`LoadError::Io`] if the system does not tell.
    pub fn check(&self) -> Result<(), LoadError> {
        self.files.iter().try_for_each(|mapped| mapped.check())
    }

    /// Number of files that parameters stay in.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no parameter stays in a file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl MappedFile {
    pub fn check(&self) -> Result<(), LoadError> {
        let now = FileStamp::of(&self.file).map_err(|source| LoadError::io("inspect", &self.path, source))?;
        match self.stamp.change_to(now) {
            Some(change) => Err(LoadError::MappedFileChanged { file: self.path.clone(), change }),
            None => Ok(()),
        }
    }
}
