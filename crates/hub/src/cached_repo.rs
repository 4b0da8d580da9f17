//! Looks a repo up in the local cache, in the layout of `huggingface_hub`:
//! `models--ORG--NAME/{refs/<revision>, snapshots/<commit>/<files>, blobs/<contents>}`.
//!
//! A file under `refs` holds the commit that a branch, a tag or `refs/pr/N` pointed to when it was downloaded; the files of
//! a snapshot are links into `blobs`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{HubError, RepoId, files, revision, suggestions};

/// Maximum bytes of a ref: a commit and a line break.
const REF_BYTES: u64 = 256;
/// Maximum of snapshots that a short commit is compared with.
const SNAPSHOTS: usize = 1_000_000;
/// Maximum depth below `refs` that is searched for names to show.
const REF_DEPTH: usize = 4;

/// A repo in one cache directory.
pub(crate) struct CachedRepo<'a> {
    pub(crate) repo: &'a RepoId,
    pub(crate) cache_dir: &'a Path,
    /// Offline mode is on, for the advice in errors.
    pub(crate) offline: bool,
}

/// A commit and the directory of its files.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) commit: String,
    pub(crate) directory: PathBuf,
}

impl CachedRepo<'_> {
    /// The snapshot of `revision`.
    pub(crate) fn snapshot(&self, revision: &str) -> Result<Snapshot, HubError> {
        revision::check(revision)?;
        if !self.directory().is_dir() {
            return Err(self.uncached_repo());
        }
        let commit = match self.commit_of_ref(revision)? {
            Some(commit) => commit,
            None => self.commit_beginning_with(revision)?,
        };
        let directory = self.snapshots().join(&commit);
        if directory.is_dir() {
            return Ok(Snapshot { commit, directory });
        }
        let (repo, revision) = (self.repo.to_string(), revision.to_owned());
        Err(HubError::MissingSnapshot { repo, revision, commit, snapshot: directory })
    }

    fn directory(&self) -> PathBuf {
        self.cache_dir.join(self.repo.cache_name())
    }

    fn refs(&self) -> PathBuf {
        self.directory().join("refs")
    }

    fn snapshots(&self) -> PathBuf {
        self.directory().join("snapshots")
    }

    /// The commit in `refs/<revision>`, or `None` if the file does not exist.
    fn commit_of_ref(&self, revision: &str) -> Result<Option<String>, HubError> {
        commit_in_ref(&self.refs().join(revision))
    }

    /// The one commit among the snapshots that begins with `revision`.
    fn commit_beginning_with(&self, revision: &str) -> Result<String, HubError> {
        let is_match = |commit: &String| revision::is_short_commit(revision) && commit.starts_with(revision);
        let mut commits: Vec<String> = self.commits().into_iter().filter(is_match).collect();
        match commits.len() {
            0 => Err(self.uncached_revision(revision)),
            1 => Ok(commits.remove(0)),
            _ => {
                let (repo, revision) = (self.repo.to_string(), revision.to_owned());
                Err(HubError::AmbiguousCommit { repo, revision, commits: suggestions::first_few(commits) })
            }
        }
    }

    /// The commits that have a snapshot, sorted.
    fn commits(&self) -> Vec<String> {
        let entries = fs::read_dir(self.snapshots()).into_iter().flatten().take(SNAPSHOTS).flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut commits: Vec<String> = names.filter(|name| revision::is_commit(name)).collect();
        commits.sort();
        commits
    }

    fn uncached_repo(&self) -> HubError {
        let cached = suggestions::names_in(self.cache_dir).into_iter();
        let cached =
            cached.filter_map(|name| RepoId::from_cache_name(name.strip_suffix('/')?)).map(|repo| repo.to_string());
        HubError::UncachedRepo {
            repo: self.repo.to_string(),
            cache_dir: self.cache_dir.to_owned(),
            offline: self.offline,
            nearest: suggestions::nearest(&self.repo.to_string(), cached),
        }
    }

    fn uncached_revision(&self, revision: &str) -> HubError {
        let mut known = Vec::new();
        collect_refs(&self.refs(), "", REF_DEPTH, &mut known);
        known.extend(self.commits());
        HubError::UncachedRevision {
            repo: self.repo.to_string(),
            revision: revision.to_owned(),
            cache_dir: self.cache_dir.to_owned(),
            offline: self.offline,
            known: suggestions::first_few(known),
        }
    }
}

/// The commit in a file under `refs`, or `None` if the file does not exist.
pub(crate) fn commit_in_ref(path: &Path) -> Result<Option<String>, HubError> {
    if path.is_dir() {
        return Ok(None);
    }
    let bytes = match files::read(path, REF_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && files::dangling(path).is_none() => return Ok(None),
        // A file in place of the revision's folder: `refs/main` of `main/x`.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(HubError::MalformedRef { path: path.to_owned() });
        }
        Err(source) => return Err(HubError::Unreadable { path: path.to_owned(), source }),
    };
    let commit = String::from_utf8_lossy(&bytes).trim().to_owned();
    if revision::is_commit(&commit) { Ok(Some(commit)) } else { Err(HubError::MalformedRef { path: path.to_owned() }) }
}

/// Names of the refs below `directory`, prefixed with their directories: `main`, `refs/pr/1`.
fn collect_refs(directory: &Path, prefix: &str, depth: usize, refs: &mut Vec<String>) {
    for name in suggestions::names_in(directory) {
        let full = format!("{prefix}{name}");
        match name.strip_suffix('/') {
            None => refs.push(full),
            Some(plain) if depth > 0 && !is_link(&directory.join(plain)) => {
                collect_refs(&directory.join(&name), &full, depth - 1, refs);
            }
            Some(_) => {}
        }
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}
