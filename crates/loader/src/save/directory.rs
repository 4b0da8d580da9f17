//! A directory that appears all at once.

use super::SaveFiles;
use crate::LoadError;
use serde_json::Value;
use std::{
    collections::HashSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const NOT_EMPTY: &str = "is not empty: choose another directory, or allow overwriting";
const NOT_DIRECTORY: &str = "is not a directory: choose another name";
const NOT_CHECKPOINT: &str = "is not replaced because it does not look like a checkpoint: it has directories in it, or neither \
                              config.json nor safetensors files; remove it yourself if it can go";
pub(crate) const NO_NAME: &str = "has no name that could be replaced: give the directory by its name";

/// The temporary directory beside the one that is to appear. Dropped, it removes itself.
pub(super) struct Staging {
    staging: TempDir,
    target: PathBuf,
    overwrite: bool,
}

impl Staging {
    /// Checks that `target` may be written and creates the temporary directory beside it.
    pub fn new(target: &Path, overwrite: bool) -> Result<Self, LoadError> {
        // A link to a directory stays, what it points to is replaced.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        check_target(&target, overwrite)?;
        let Some(name) = target.file_name() else { return Err(in_the_way(&target, NO_NAME)) };
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|source| LoadError::io("create", parent, source))?;
        let prefix = format!(".{}-", name.to_string_lossy());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let staging = builder.tempdir_in(parent).map_err(|source| LoadError::io("create", parent, source))?;
        Ok(Self { staging, target, overwrite })
    }

    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Writes what goes beside the weights.
    pub fn add(&self, files: &SaveFiles) -> Result<(), LoadError> {
        write_files(self.path(), files)
    }

    /// Renames the temporary directory to what it was made for.
    pub fn commit(self) -> Result<(), LoadError> {
        check_target(&self.target, self.overwrite)?;
        let old = match self.target.exists() {
            true if is_empty(&self.target)? => {
                fs::remove_dir(&self.target).map_err(|source| LoadError::io("replace", &self.target, source))?;
                None
            }
            true => Some(self.set_aside()?),
            false => None,
        };
        let staging = self.staging.keep();
        if let Err(source) = fs::rename(&staging, &self.target) {
            if let Some(old) = &old {
                // The error that matters is the first one.
                let _ = fs::rename(old, &self.target);
            }
            let _ = fs::remove_dir_all(&staging);
            return Err(LoadError::io("rename", &staging, source));
        }
        match old {
            Some(old) => fs::remove_dir_all(&old).map_err(|source| LoadError::io("remove", &old, source)),
            None => Ok(()),
        }
    }

    /// Moves the directory that is to be replaced out of the way.
    fn set_aside(&self) -> Result<PathBuf, LoadError> {
        let mut aside = self.staging.path().as_os_str().to_owned();
        aside.push(".old");
        let aside = PathBuf::from(aside);
        fs::rename(&self.target, &aside).map_err(|source| LoadError::io("replace", &self.target, source))?;
        Ok(aside)
    }
}

/// Writes to `directory` what goes beside the weights.
pub(crate) fn write_files(directory: &Path, files: &SaveFiles) -> Result<(), LoadError> {
    if let Some(config) = &files.config {
        write_json(&directory.join("config.json"), config)?;
    }
    if let Some(config) = &files.generation_config {
        write_json(&directory.join("generation_config.json"), config)?;
    }
    for file in &files.copies {
        let to = directory.join(carried_name(file)?);
        fs::copy(file, &to).map_err(|source| LoadError::io("copy", file, source))?;
    }
    Ok(())
}

/// Checks the files to carry before anything is written.
pub(crate) fn check_carried(files: &SaveFiles) -> Result<(), LoadError> {
    let mut names = HashSet::new();
    if files.config.is_some() {
        names.insert("config.json".to_owned());
    }
    if files.generation_config.is_some() {
        names.insert("generation_config.json".to_owned());
    }
    for file in &files.copies {
        if !names.insert(carried_name(file)?) {
            return Err(LoadError::CarriedFile { file: file.clone(), reason: "another file is saved under this name" });
        }
    }
    Ok(())
}

fn carried_name(file: &Path) -> Result<String, LoadError> {
    let refuse = |reason| LoadError::CarriedFile { file: file.to_owned(), reason };
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| refuse("its name is not text"))?;
    if name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") || name.ends_with(".partial") {
        return Err(refuse("such names are for the weights"));
    }
    if !file.is_file() {
        return Err(refuse("it does not exist or is no file"));
    }
    Ok(name.to_owned())
}

/// Writes `value` as indented JSON.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), LoadError> {
    let write = || -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        let mut file = fs::File::create(path)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(|source| LoadError::io("write", path, source))
}

/// Checks that `target` may be written or replaced.
pub(crate) fn check_target(target: &Path, overwrite: bool) -> Result<(), LoadError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LoadError::io("open", target, source)),
        Ok(metadata) if !metadata.is_dir() => Err(in_the_way(target, NOT_DIRECTORY)),
        Ok(_) if is_empty(target)? => Ok(()),
        Ok(_) if !overwrite => Err(in_the_way(target, NOT_EMPTY)),
        Ok(_) if !is_checkpoint(target)? => Err(in_the_way(target, NOT_CHECKPOINT)),
        Ok(_) => Ok(()),
    }
}

pub(crate) fn is_empty(directory: &Path) -> Result<bool, LoadError> {
    let mut entries = fs::read_dir(directory).map_err(|source| LoadError::io("list", directory, source))?;
    Ok(entries.next().is_none())
}

/// Whether replacing the directory loses nothing but a checkpoint, as far as names tell.
fn is_checkpoint(directory: &Path) -> Result<bool, LoadError> {
    let entries = fs::read_dir(directory).map_err(|source| LoadError::io("list", directory, source))?;
    let mut weights = false;
    for entry in entries {
        let entry = entry.map_err(|source| LoadError::io("list", directory, source))?;
        if entry.file_type().map_err(|source| LoadError::io("list", directory, source))?.is_dir() {
            return Ok(false);
        }
        let name = entry.file_name();
        weights |= name == "config.json" || name.to_string_lossy().ends_with(".safetensors");
    }
    Ok(weights)
}

pub(crate) fn in_the_way(directory: &Path, reason: &'static str) -> LoadError {
    LoadError::OutputExists { directory: directory.to_owned(), reason }
}
