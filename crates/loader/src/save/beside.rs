//! Files beside the weights.

use super::{SaveFiles, target::TEMPLATES};
use crate::LoadError;
use serde_json::Value;
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes the files beside the weights to `directory`.
pub(crate) fn write_files(directory: &Path, files: &SaveFiles) -> Result<(), LoadError> {
    if let Some(config) = &files.config {
        write_json(&directory.join("config.json"), config)?;
    }
    if let Some(config) = &files.generation_config {
        write_json(&directory.join("generation_config.json"), config)?;
    }
    for file in &files.copies {
        let to = directory.join(carried_name(file)?);
        copy(file, &to).map_err(|source| LoadError::io("copy", file, source))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fresh_file(to)?;
    io::copy(&mut automodel_config::files::open(from)?, &mut file)?;
    file.sync_all()
}

/// A new file in place of whatever has the name, which is never written through if it is a link.
pub(crate) fn fresh_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
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
        return Err(refuse("it does not exist or is not a file"));
    }
    let folder = file.parent().and_then(Path::file_name);
    let is_template = folder.is_some_and(|folder| folder == TEMPLATES) && name.ends_with(".jinja");
    Ok(if is_template { format!("{TEMPLATES}/{name}") } else { name.to_owned() })
}

/// Writes `value` as indented JSON.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), LoadError> {
    let write = || -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        let mut file = fresh_file(path)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(|source| LoadError::io("write", path, source))
}
