//! A located checkpoint: a directory that is known to hold a `config.json`.

use std::{
    any::Any,
    fmt, fs, io,
    panic::{RefUnwindSafe, UnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{HubError, ModelSource, auxiliary, file_name::is_contained, files, suggestions};

/// The file that makes a directory a checkpoint.
const CONFIG: &str = "config.json";
/// Extensions of the files of a causal language model: configuration, templates, weights and tokenizers.
const RELEVANT: [&str; 6] = ["json", "jinja", "model", "safetensors", "tiktoken", "txt"];

/// A directory with the files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The directory; for a repo, the snapshot of one commit in the cache.
    pub dir: PathBuf,
    /// The directory or repo that was resolved.
    pub source: ModelSource,
    /// The commit that a repo is pinned to, 40 hexadecimal digits; `None` for a directory.
    pub commit: Option<String>,
    /// The directory has only configuration and headers: weights would be read as zeros. It is removed with the last clone of this
    /// value.
    pub headers_only: bool,
    /// The owner of a temporary directory.
    pub(crate) temporary: Option<Temporary>,
}

/// Removes a directory when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Temporary(
    #[expect(dead_code, reason = "its drop removes the directory")]
    Arc<dyn Any + Send + Sync + UnwindSafe + RefUnwindSafe>,
);

impl Temporary {
    pub(crate) fn new(owner: impl Any + Send + Sync + UnwindSafe + RefUnwindSafe) -> Self {
        Self(Arc::new(owner))
    }
}

impl fmt::Debug for Temporary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Temporary")
    }
}

impl PartialEq for Temporary {
    fn eq(&self, _other: &Self) -> bool {
        // Checkpoints of two directories differ in their paths already.
        true
    }
}

impl Eq for Temporary {}

impl Checkpoint {
    /// The checkpoint in `dir`, which must hold a `config.json`.
    ///
    /// # Errors
    /// [`HubError::MissingConfig`], [`HubError::UnsupportedFormat`] if there are weights for other programs instead,
    /// [`HubError::DanglingLink`] if there is only a dangling link, or [`HubError::Unreadable`].
    pub(crate) fn open(dir: PathBuf, source: ModelSource, commit: Option<String>) -> Result<Self, HubError> {
        let checkpoint = Self { dir, source, commit, headers_only: false, temporary: None };
        let config = checkpoint.config_file();
        match fs::metadata(&config) {
            Ok(metadata) => match files::irregular(metadata.file_type()) {
                None => Ok(checkpoint),
                Some(found) => Err(HubError::Unreadable { path: config, source: files::not_regular(found) }),
            },
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HubError::Unreadable { path: config, source })
            }
            _ => Err(checkpoint.without_config(config)),
        }
    }

    fn without_config(self, config: PathBuf) -> HubError {
        if let Some(target) = files::dangling(&config) {
            return HubError::DanglingLink { link: config, target };
        }
        let names = suggestions::names_in(&self.dir);
        match names.iter().find(|name| name.ends_with(".gguf")) {
            // A checkpoint for other programs rather than one without its config.
            Some(name) => HubError::UnsupportedFormat { path: self.dir.join(name), format: "GGUF" },
            None => HubError::MissingConfig { directory: self.dir, found: suggestions::first_few(names) },
        }
    }

    /// The same checkpoint in a temporary directory, which `owner` removes when it is dropped, with the last clone of this value.
    pub fn with_owner(mut self, owner: impl Any + Send + Sync + UnwindSafe + RefUnwindSafe) -> Self {
        self.temporary = Some(Temporary::new(owner));
        self
    }

    /// Path of the `config.json`.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// Path of the file called `name`, or `None` if it does not exist. A dangling link or anything but a regular file is returned too:
    /// opening it then gives the error.
    ///
    /// `name` may come from outside: it is relative with `/` between its parts, and a name that would leave the directory
    /// under the rules of POSIX or of Windows (`..`, an absolute path, a drive, a share, a device, NUL) is never found.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        if !is_contained(name) {
            return None;
        }
        let path = self.dir.join(name);
        let is_there = fs::symlink_metadata(&path).is_ok() && !path.is_dir();
        is_there.then_some(path)
    }

    /// The auxiliary files to copy beside new weights, sorted: those of tokenizer, chat templates (also of the folder
    /// `additional_chat_templates`), processors and generation. Weights, config.json and code are not among them.
    ///
    /// # Errors
    /// [`HubError::Unreadable`] if a directory cannot be read.
    pub fn auxiliary_files(&self) -> Result<Vec<PathBuf>, HubError> {
        let mut files = Vec::new();
        for folder in auxiliary::FOLDERS {
            let directory = self.dir.join(folder);
            let unreadable = |source| HubError::Unreadable { path: directory.clone(), source };
            let entries = match fs::read_dir(&directory) {
                Err(_) if !folder.is_empty() && !directory.is_dir() => continue,
                entries => entries.map_err(unreadable)?,
            };
            for entry in entries {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name();
                let is_copied = name.to_str().is_some_and(|name| auxiliary::is_copied(&[folder, name].concat()));
                files.extend(is_copied.then(|| entry.path()).filter(|path| path.is_file()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// The files of the checkpoint's own directory that a language model uses, sorted by name: configuration, weights, tokenizer and
    /// templates, by extension. Dangling links are left out.
    ///
    /// # Errors
    /// [`HubError::Unreadable`] if the directory or one of its entries cannot be read.
    pub fn list(&self) -> Result<Vec<CheckpointFile>, HubError> {
        let unreadable = |source| HubError::Unreadable { path: self.dir.clone(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            files.extend(relevant_file(path));
        }
        files.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(files)
    }
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointFile {
    /// Name in the checkpoint's directory.
    pub name: String,
    /// Path of the file.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
}

fn relevant_file(path: PathBuf) -> Option<CheckpointFile> {
    let name = path.file_name()?.to_str()?.to_owned();
    let extension = Path::new(&name).extension()?.to_str()?;
    let metadata = fs::metadata(&path).ok()?;
    let is_relevant = metadata.is_file() && RELEVANT.contains(&extension) && is_contained(&name);
    is_relevant.then_some(CheckpointFile { name, path, bytes: metadata.len() })
}
