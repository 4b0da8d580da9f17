//! The output directory, and obstacles to writing it.

use crate::LoadError;
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

const NOT_EMPTY: &str = "is not empty: choose another directory, or allow overwriting";
const NOT_DIRECTORY: &str = "is not a directory: choose another name";
const NOT_CHECKPOINT: &str = "is not replaced because it does not look like a checkpoint: it has directories in it, or neither \
                              config.json nor safetensors files; remove it yourself if it can go";
const LINK: &str = "is a link, and links are not replaced: give the directory that it leads to";
const SOURCE: &str = "is the checkpoint that is read: choose another directory";
const HOLDS_SOURCE: &str = "holds the checkpoint that is read: choose another directory";
const NO_NAME: &str = "has no name that could be replaced: give the directory by its name";

/// The one folder that checkpoints have.
pub(crate) const TEMPLATES: &str = "additional_chat_templates";

/// A directory to write, without links on the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    directory: PathBuf,
    overwrite: bool,
}

/// Checks that a checkpoint could be written to `directory`, before the work begins that makes it: that nothing is there, an
/// empty directory, or with `overwrite` another checkpoint; that it is not `source`, the checkpoint that is read, nor a folder
/// around it; and that its parent can be written to. Nothing is left behind.
///
/// # Errors
/// [`LoadError::OutputExists`] with what is in the way, [`LoadError::Io`] if the parent cannot be written to.
pub fn check_output(directory: &Path, overwrite: bool, source: &Path) -> Result<(), LoadError> {
    let target = Target::new(directory, overwrite)?;
    target.check_apart_from(source)?;
    if !target.is_begun() {
        target.check()?;
    }
    target.check_writable()
}

impl Target {
    pub fn new(directory: &Path, overwrite: bool) -> Result<Self, LoadError> {
        let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = match directory.file_name() {
            Some(name) => resolved(parent_of(directory)).join(name),
            // `.` and the like.
            None => resolved(directory),
        };
        if directory.file_name().is_none() {
            return Err(in_the_way(&directory, NO_NAME));
        }
        Ok(Self { directory, overwrite })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn parent(&self) -> &Path {
        parent_of(&self.directory)
    }

    /// Where the checkpoint is until it is whole: beside the target, so that it can be given its name.
    pub fn place(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.directory.file_name().unwrap_or_default());
        name.push(".partial");
        self.parent().join(name)
    }

    /// Whether an earlier run was interrupted on the way to this target: what is there may be its result.
    pub fn is_begun(&self) -> bool {
        fs::symlink_metadata(self.place()).is_ok()
    }

    /// Checks that it may be written or replaced.
    pub fn check(&self) -> Result<(), LoadError> {
        let directory = self.directory.as_path();
        match fs::symlink_metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
            Err(source) => Err(LoadError::io("open", directory, source)),
            Ok(metadata) if metadata.is_symlink() => Err(in_the_way(directory, LINK)),
            Ok(metadata) if !metadata.is_dir() => Err(in_the_way(directory, NOT_DIRECTORY)),
            Ok(_) if is_empty(directory)? => Ok(()),
            Ok(_) if !self.overwrite => Err(in_the_way(directory, NOT_EMPTY)),
            Ok(_) if !is_checkpoint(directory)? => Err(in_the_way(directory, NOT_CHECKPOINT)),
            Ok(_) => Ok(()),
        }
    }

    /// Checks that replacing it takes nothing away that is read.
    pub fn check_apart_from(&self, source: &Path) -> Result<(), LoadError> {
        let source = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
        match source.starts_with(&self.directory) {
            true if source == self.directory => Err(in_the_way(&self.directory, SOURCE)),
            true => Err(in_the_way(&self.directory, HOLDS_SOURCE)),
            false => Ok(()),
        }
    }

    /// Checks that a file can be made where it is to appear.
    pub fn check_writable(&self) -> Result<(), LoadError> {
        let there = self.parent().ancestors().find(|folder| fs::symlink_metadata(folder).is_ok());
        let there = there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !there.is_dir() {
            return Err(in_the_way(there, NOT_DIRECTORY));
        }
        tempfile::tempfile_in(there).map(drop).map_err(|source| LoadError::io("write to", there, source))
    }
}

fn parent_of(directory: &Path) -> &Path {
    directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(crate) fn is_empty(directory: &Path) -> Result<bool, LoadError> {
    let mut entries = fs::read_dir(directory).map_err(|source| LoadError::io("list", directory, source))?;
    Ok(entries.next().is_none())
}

/// Whether replacing the directory loses nothing but a checkpoint, as far as names tell.
fn is_checkpoint(directory: &Path) -> Result<bool, LoadError> {
    let failed = |source| LoadError::io("list", directory, source);
    let mut weights = false;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if entry.file_type().map_err(failed)?.is_dir() && !(name == TEMPLATES && has_only_templates(&entry.path())) {
            return Ok(false);
        }
        weights |= name == "config.json" || name.to_string_lossy().ends_with(".safetensors");
    }
    Ok(weights)
}

fn has_only_templates(directory: &Path) -> bool {
    let is_template = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let is_file = entry.file_type().is_ok_and(|kind| !kind.is_dir());
            is_file && entry.path().extension().is_some_and(|extension| extension == "jinja")
        })
    };
    fs::read_dir(directory).is_ok_and(|mut entries| entries.all(is_template))
}

pub(crate) fn in_the_way(directory: &Path, reason: &'static str) -> LoadError {
    LoadError::OutputExists { directory: directory.to_owned(), reason }
}
