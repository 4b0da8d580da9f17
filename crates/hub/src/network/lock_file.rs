//! `automodel.lock`: commit, files and hashes of each repo.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    folder::Folder,
    hash::ContentHash,
    listing::{Entry, Listing},
};
use crate::{HubError, HubOptions, files, revision};

/// Maximum size of a lock file.
const LOCK_FILE_BYTES: u64 = 64 << 20;
const VERSION: u32 = 1;

/// A lock file: for each repo the commit and the files that it must have.
///
/// ```
/// use automodel_hub::LockFile;
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("automodel.lock");
/// LockFile::default().write(&path)?;
/// assert_eq!(LockFile::read(&path)?.models().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    version: u32,
    models: Vec<LockedModel>,
}

/// One repo of a lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LockedModel {
    /// The repo id.
    pub repo: String,
    /// The requested revision when it was locked.
    pub revision: String,
    /// The folder of the repo, unless it is the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subfolder: Option<String>,
    /// The commit.
    pub commit: String,
    /// The files by name.
    pub files: BTreeMap<String, LockedFile>,
}

/// One file of a locked repo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LockedFile {
    /// Size in bytes.
    pub bytes: u64,
    /// `sha256:` or `git-sha1:` and the digits.
    pub hash: String,
}

impl Default for LockFile {
    fn default() -> Self {
        Self { version: VERSION, models: Vec::new() }
    }
}

impl LockFile {
    /// Reads a lock file.
    ///
    /// # Errors
    /// [`HubError::Unreadable`], or [`HubError::MalformedLockFile`] with the reason.
    pub fn read(path: &Path) -> Result<Self, HubError> {
        let malformed = |reason: String| HubError::MalformedLockFile { path: path.to_owned(), reason };
        let text = files::read(path, LOCK_FILE_BYTES)
            .map_err(|source| HubError::Unreadable { path: path.to_owned(), source })?;
        let lock: Self = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        if lock.version != VERSION {
            return Err(malformed(format!("it has version {}, and only {VERSION} is supported", lock.version)));
        }
        match lock.models.iter().find(|model| !revision::is_commit(&model.commit)) {
            Some(model) => Err(malformed(format!("the commit of `{}` is not 40 hexadecimal digits", model.repo))),
            None => Ok(lock),
        }
    }

    /// Writes the lock file atomically. A link in its place is replaced, and its target is unchanged.
    ///
    /// # Errors
    /// [`HubError::Unwritable`].
    pub fn write(&self, path: &Path) -> Result<(), HubError> {
        let unwritable = |source| HubError::Unwritable { path: path.to_owned(), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| unwritable(error.into()))?;
        text.push('\n');
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| unwritable(io::ErrorKind::InvalidFilename.into()))?;
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let folder = Folder::root(directory.unwrap_or(Path::new(".")))?;
        let folder = folder.ok_or_else(|| unwritable(io::ErrorKind::NotFound.into()))?;
        folder.replace(name, text.as_bytes()).map_err(unwritable)
    }

    /// The repos that it locks.
    pub fn models(&self) -> impl Iterator<Item = &LockedModel> {
        self.models.iter()
    }

    /// Adds a repo, or replaces its entry.
    pub fn insert(&mut self, model: LockedModel) {
        self.models.retain(|other| (&other.repo, &other.subfolder) != (&model.repo, &model.subfolder));
        self.models.push(model);
        self.models.sort_by(|left, right| (&left.repo, &left.subfolder).cmp(&(&right.repo, &right.subfolder)));
    }

    /// The entry of a repo, which must match the options.
    pub(crate) fn entry(self, path: &Path, repo: &str, options: &HubOptions) -> Result<LockedModel, HubError> {
        let locked: Vec<String> = self.models.iter().map(|model| format!("`{}`", model.repo)).collect();
        let found = self.models.into_iter().find(|model| model.repo == repo && model.subfolder == options.subfolder);
        let Some(model) = found else {
            let folder = options.subfolder.as_ref().map(|folder| format!(", folder {folder}")).unwrap_or_default();
            return Err(HubError::NotLocked { path: path.to_owned(), model: format!("`{repo}`{folder}"), locked });
        };
        match &options.revision {
            Some(revision) if *revision != model.revision && *revision != model.commit => {
                let expected = format!("`{}`, commit {}", model.revision, model.commit);
                Err(mismatch(options, repo, "the revision", &expected, &format!("`{revision}`")))
            }
            _ => Ok(model),
        }
    }
}

impl LockedModel {
    pub(crate) fn new(repo: &str, revision: &str, subfolder: Option<&str>, commit: &str, files: &[&Entry]) -> Self {
        let file =
            |entry: &&Entry| (entry.name.clone(), LockedFile { bytes: entry.bytes, hash: entry.hash.to_string() });
        Self {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
            subfolder: subfolder.map(str::to_owned),
            commit: commit.to_owned(),
            files: files.iter().map(file).collect(),
        }
    }

    /// Compares with the server's listing, before anything is downloaded.
    pub(crate) fn check_listing(&self, options: &HubOptions, repo: &str, listing: &Listing) -> Result<(), HubError> {
        for (name, file) in &self.files {
            let found =
                listing.get(name).map_or("absent".to_owned(), |entry| described(entry.bytes, &entry.hash.to_string()));
            let expected = described(file.bytes, &file.hash);
            if found != expected {
                return Err(mismatch(options, repo, name, &expected, &found));
            }
        }
        Ok(())
    }

    /// Compares with the snapshot: the set of files, their sizes, and the blobs that they link to, or the contents of a file that is not
    /// a link to a blob.
    pub(crate) fn check_files(
        &self,
        options: &HubOptions,
        repo: &str,
        files: &[&Entry],
        snapshot: &Path,
    ) -> Result<(), HubError> {
        if let Some(entry) = files.iter().find(|entry| !self.files.contains_key(&entry.name)) {
            return Err(mismatch(options, repo, &entry.name, "no such file", "there"));
        }
        for (name, file) in &self.files {
            let path = snapshot.join(name);
            let blob = fs::read_link(&path).ok();
            let blob = blob.as_ref().and_then(|blob| ContentHash::from_name(blob.file_name()?.to_str()?));
            let unreadable = |source| HubError::Unreadable { path: path.clone(), source };
            let hash = match (blob, files.iter().find(|entry| entry.name == *name)) {
                (Some(hash), _) => hash.to_string(),
                (None, Some(entry)) => entry.hash.of_file(&path).map_err(unreadable)?.to_string(),
                (None, None) => "absent".to_owned(),
            };
            let bytes = fs::metadata(&path).map_err(unreadable)?.len();
            let (expected, found) = (described(file.bytes, &file.hash), described(bytes, &hash));
            if found != expected {
                return Err(mismatch(options, repo, name, &expected, &found));
            }
        }
        Ok(())
    }

    pub(crate) fn other_commit(&self, options: &HubOptions, repo: &str, found: &str) -> HubError {
        mismatch(options, repo, "the commit", &self.commit, found)
    }

    /// The error if the files of the commit are unknown.
    pub(crate) fn without_list(&self, options: &HubOptions, repo: &str) -> HubError {
        mismatch(options, repo, "the list of files", "a list with hashes", "not in the cache, and there is no network")
    }
}

fn described(bytes: u64, hash: &str) -> String {
    format!("{bytes} bytes, {hash}")
}

fn mismatch(options: &HubOptions, repo: &str, what: &str, expected: &str, found: &str) -> HubError {
    HubError::LockMismatch {
        path: options.lock_file.clone().unwrap_or_default(),
        repo: repo.to_owned(),
        what: what.into(),
        expected: expected.into(),
        found: found.into(),
    }
}
