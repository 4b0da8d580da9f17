//! Writes the cache, in the layout of `huggingface_hub`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    folder::{self, Folder},
    hash::ContentHash,
    in_use::{self, InUse},
    listing::{Entry, Listing},
    lock::{self, Guard, OnWait},
};
use crate::{HubError, Locking, RepoId, cached_repo::commit_in_ref};

/// Marks a directory that backups may skip. Source: https://bford.info/cachedir/
const CACHEDIR_TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of files from a Hugging Face Hub.\n";
/// How long pruning waits for other pruning processes and for loads that begin.
const GATE_WAIT: Duration = Duration::from_secs(20);

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

    /// Bytes of an unfinished download.
    pub(crate) fn incomplete_bytes(&self, hash: &ContentHash) -> u64 {
        let path = self.directory().join("blobs").join(incomplete_name(hash));
        fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
    }

    pub(crate) fn listing(&self, commit: &str) -> Option<Listing> {
        Listing::read(&self.directory().join("trees").join(format!("{commit}.json")))
    }

    /// Writes the listing to the cache if possible: without it the next load requests it again.
    pub(crate) fn keep_listing(&self, commit: &str, listing: &Listing) {
        if let (Some(text), Ok(trees)) = (listing.text(), self.folder("trees")) {
            let _ = trees.replace(&format!("{commit}.json"), &text);
        }
    }

    /// The cached commit of a branch or tag.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        commit_in_ref(&self.directory().join("refs").join(revision)).ok().flatten()
    }

    /// Whether the snapshot has the file with its full size.
    pub(crate) fn has(&self, commit: &str, entry: &Entry) -> bool {
        let metadata = fs::metadata(self.snapshot(commit).join(&entry.name));
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == entry.bytes)
    }

    fn root(&self) -> Result<Folder, HubError> {
        Folder::create_root(&self.cache_dir)
    }

    /// A directory of the repo, which is created if needed.
    fn folder(&self, relative: &str) -> Result<Folder, HubError> {
        self.root()?.create(&format!("{}/{relative}", self.repo_name))
    }

    /// The directory of the locks of the repo.
    fn locks(&self) -> Result<Folder, HubError> {
        self.root()?.create(&format!(".locks/{}", self.repo_name))
    }

    /// The directory of the blobs.
    pub(crate) fn blobs(&self) -> Result<Folder, HubError> {
        self.folder("blobs")
    }

    /// Whether the blob exists with the expected size.
    pub(crate) fn has_blob(&self, blobs: &Folder, entry: &Entry) -> bool {
        match blobs.entry(entry.hash.name()) {
            Ok(Some(folder::Entry::File { bytes })) => bytes == entry.bytes,
            // A link into the blob store that repos of one cache share, `huggingface_hub/utils/_shared_blobs.py`. A target outside the
            // cache does not count.
            Ok(Some(folder::Entry::Link)) => {
                let relative = format!("{}/blobs/{}", self.repo_name, entry.hash.name());
                self.root().is_ok_and(|root| root.followed_bytes(&relative) == Some(entry.bytes))
            }
            _ => false,
        }
    }

    /// Creates the directories for blobs.
    pub(crate) fn prepare(&self) -> Result<(), HubError> {
        self.blobs()?;
        // Optional.
        if let Ok(mut tag) = self.root()?.create_new("CACHEDIR.TAG") {
            let _ = tag.write_all(CACHEDIR_TAG.as_bytes());
        }
        Ok(())
    }

    /// Waits until no other process works on these contents; `on_wait` is called in between.
    pub(crate) fn lock(&self, hash: &ContentHash, on_wait: &mut OnWait<'_>) -> Result<Guard, HubError> {
        lock::acquire(&self.locks()?, hash.name(), self.locking, on_wait)
    }

    /// The lock if it is free now.
    pub(crate) fn try_lock(&self, hash: &ContentHash) -> Option<Guard> {
        self.lock(hash, &mut || Err(HubError::Cancelled)).ok()
    }

    /// Protects the contents of this repo from pruning.
    pub(crate) fn begin_load(&self, on_wait: &mut OnWait<'_>) -> Result<InUse, HubError> {
        InUse::begin(self.locks()?, self.locking, on_wait)
    }

    /// Blocks new loads until the guard is dropped; `None` if a load is in progress.
    pub(crate) fn block_loads(&self) -> Result<Option<Guard>, HubError> {
        let start = Instant::now();
        in_use::block_loads(&self.locks()?, self.locking, &mut || {
            if start.elapsed() < GATE_WAIT { Ok(()) } else { Err(HubError::Cancelled) }
        })
        .or_else(|error| if matches!(error, HubError::Cancelled) { Ok(None) } else { Err(error) })
    }

    /// Links the file of the snapshot to its blob.
    pub(crate) fn link(&self, commit: &str, blobs: &Folder, entry: &Entry) -> Result<(), HubError> {
        let (below, name) = split(&entry.name);
        let folder = self.folder(&format!("snapshots/{commit}{below}"))?;
        let up = "../".repeat(entry.name.matches('/').count() + 2);
        let target = format!("{up}blobs/{}", entry.hash.name());
        if folder.read_link(name).is_ok_and(|link| link == Path::new(&target)) {
            return Ok(());
        }
        let temporary = folder::temporary_name();
        let result = folder
            .link_to(&target, blobs, entry.hash.name(), &temporary)
            .and_then(|()| folder.rename(&temporary, name));
        result.map_err(|source| {
            let _ = folder.remove_file(&temporary);
            HubError::Unwritable { path: folder.path().join(name), source }
        })
    }

    /// Whether the ref of a branch or tag is up to date. A commit has no ref.
    pub(crate) fn has_ref(&self, revision: &str, commit: &str) -> bool {
        revision == commit || self.commit_of(revision).as_deref() == Some(commit)
    }

    /// Records the commit of a branch or tag.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if self.has_ref(revision, commit) {
            return Ok(());
        }
        let (below, name) = split(revision);
        let folder = self.folder(&format!("refs{below}"))?;
        let unwritable = |source| HubError::Unwritable { path: folder.path().join(name), source };
        folder.replace(name, commit.as_bytes()).map_err(unwritable)
    }

    /// Records that the commit has no such file, so that other programs need not ask. Optional.
    pub(crate) fn note_absent(&self, commit: &str, name: &str) {
        let (below, name) = split(name);
        let _ = self.folder(&format!(".no_exist/{commit}{below}")).map(|folder| folder.create_new(name));
    }
}

/// Name of the unfinished download of a blob.
pub(crate) fn incomplete_name(hash: &ContentHash) -> String {
    format!("{}.incomplete", hash.name())
}

/// `/a/b` and `c` of `a/b/c`; nothing and `c` of `c`.
pub(crate) fn split(name: &str) -> (String, &str) {
    match name.rsplit_once('/') {
        Some((folders, name)) => (format!("/{folders}"), name),
        None => (String::new(), name),
    }
}
