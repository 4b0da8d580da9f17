//! Writing the cache, in the layout of `huggingface_hub`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    hash::ContentHash,
    listing::{Entry, Listing},
    lock::{self, Guard, Patience},
    retry::random_number,
};
use crate::{HubError, Locking, RepoId, cache::commit_in_ref};

/// What marks a directory that backups may leave out. Source: https://bford.info/cachedir/
const CACHEDIR_TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of files from a Hugging Face Hub.\n";

/// One repo in the cache directory.
pub(crate) struct Store {
    cache_dir: PathBuf,
    repo_name: String,
    locking: Locking,
}

impl Store {
    pub(crate) fn new(cache_dir: &Path, repo: &RepoId, locking: Locking) -> Self {
        Self { cache_dir: cache_dir.to_owned(), repo_name: repo.cache_name(), locking }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.cache_dir.join(&self.repo_name)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.directory().join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.directory().join("blobs").join(hash.name())
    }

    pub(crate) fn incomplete(&self, hash: &ContentHash) -> PathBuf {
        self.directory().join("blobs").join(format!("{}.incomplete", hash.name()))
    }

    fn list(&self, commit: &str) -> PathBuf {
        self.directory().join("trees").join(format!("{commit}.json"))
    }

    pub(crate) fn listing(&self, commit: &str) -> Option<Listing> {
        Listing::read(&self.list(commit))
    }

    pub(crate) fn keep_listing(&self, commit: &str, listing: &Listing) {
        listing.write(&self.list(commit));
    }

    /// The commit that the cache has for a branch or tag.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        commit_in_ref(&self.directory().join("refs").join(revision)).ok().flatten()
    }

    /// Whether the snapshot has the file in its full size.
    pub(crate) fn has(&self, commit: &str, entry: &Entry) -> bool {
        has_size(&self.snapshot(commit).join(&entry.name), entry.bytes)
    }

    /// Makes the directories for blobs.
    pub(crate) fn prepare(&self) -> Result<(), HubError> {
        let blobs = self.directory().join("blobs");
        create_directory(&blobs)?;
        let tag = self.cache_dir.join("CACHEDIR.TAG");
        if !tag.exists() {
            // Nice to have.
            let _ = fs::write(tag, CACHEDIR_TAG);
        }
        Ok(())
    }

    /// Waits until no other process works on these contents; `patience` is asked in between.
    pub(crate) fn lock(&self, hash: &ContentHash, patience: &mut Patience<'_>) -> Result<Guard, HubError> {
        let directory = self.cache_dir.join(".locks").join(&self.repo_name);
        create_directory(&directory)?;
        lock::acquire(&directory.join(format!("{}.lock", hash.name())), self.locking, patience)
    }

    /// The lock if it is free now.
    pub(crate) fn try_lock(&self, name: &str) -> Option<Guard> {
        let directory = self.cache_dir.join(".locks").join(&self.repo_name);
        fs::create_dir_all(&directory).ok()?;
        lock::acquire(&directory.join(format!("{name}.lock")), self.locking, &mut || Err(HubError::Stopped)).ok()
    }

    /// Lets the file of the snapshot lead to its blob.
    pub(crate) fn link(&self, commit: &str, entry: &Entry) -> Result<(), HubError> {
        let snapshot = self.snapshot(commit);
        let path = snapshot.join(&entry.name);
        let parent = path.parent().unwrap_or(&snapshot);
        create_directory(parent)?;
        let unwritable = |source| HubError::Unwritable { path: path.clone(), source };
        // Names are plain, so that only a link in the cache itself could lead elsewhere.
        let (real_parent, real_snapshot) =
            (fs::canonicalize(parent).map_err(unwritable)?, fs::canonicalize(&snapshot).map_err(unwritable)?);
        if !real_parent.starts_with(&real_snapshot) {
            return Err(HubError::HostileName {
                origin: format!("the cache {}", snapshot.display()),
                name: entry.name.clone(),
            });
        }
        let blob = self.blob(&entry.hash);
        let up = "../".repeat(entry.name.matches('/').count() + 2);
        let target = format!("{up}blobs/{}", entry.hash.name());
        if fs::read_link(&path).is_ok_and(|link| link == Path::new(&target)) {
            return Ok(());
        }
        let temporary = beside(&path);
        let result = symlink(&target, &blob, &temporary).and_then(|()| fs::rename(&temporary, &path));
        result.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            unwritable(source)
        })
    }

    /// Records the commit of a branch or tag.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.directory().join("refs").join(revision);
        create_directory(path.parent().unwrap_or(&path))?;
        replace(&path, commit.as_bytes()).map_err(|source| HubError::Unwritable { path, source })
    }

    /// Notes that the commit has no such file, so that others need not ask. Nice to have.
    pub(crate) fn note_absent(&self, commit: &str, name: &str) {
        let path = self.directory().join(".no_exist").join(commit).join(name);
        if !path.exists() {
            let _ = path.parent().map(fs::create_dir_all);
            let _ = fs::write(path, "");
        }
    }
}

/// Whether there is a file of that size.
pub(crate) fn has_size(path: &Path, bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
}

/// Puts `text` in the place of a file, all at once.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = beside(path);
    let result = fs::File::create_new(&temporary)
        .and_then(|mut file| file.write_all(text))
        .and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

pub(crate) fn create_directory(path: &Path) -> Result<(), HubError> {
    fs::create_dir_all(path).map_err(|source| HubError::Unwritable { path: path.to_owned(), source })
}

/// A name in the same directory that no other process or thread has.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    path.with_file_name(format!(".{process:x}-{number:x}-{:x}.tmp", random_number()))
}

#[cfg(unix)]
fn symlink(target: &str, blob: &Path, link: &Path) -> io::Result<()> {
    // Some file systems have no links.
    std::os::unix::fs::symlink(target, link).or_else(|_| copy(blob, link))
}

#[cfg(windows)]
fn symlink(target: &str, blob: &Path, link: &Path) -> io::Result<()> {
    // Links need a right that most users lack.
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), link).or_else(|_| copy(blob, link))
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &str, blob: &Path, link: &Path) -> io::Result<()> {
    copy(blob, link)
}

fn copy(blob: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(|_| ()))
}
