//! Looking a repo up in the local cache, in the layout that `huggingface_hub` writes:
//! `models--ORG--NAME/{refs/<revision>, snapshots/<commit>/<files>, blobs/<contents>}`.
//!
//! A file under `refs` holds the commit that a branch, a tag or `refs/pr/N` stood for when it was downloaded; the files of
//! a snapshot are links into `blobs`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{HubError, RepoId, hints, revision};

/// Bytes of a ref that are read: more than a commit and a line break is no ref.
const REF_BYTES: u64 = 256;
/// Directories below `refs` that are searched for names to show.
pub(crate) const REF_DEPTH: usize = 4;

/// A repo in one cache directory.
pub(crate) struct CachedRepo<'a> {
    pub(crate) repo: &'a RepoId,
    pub(crate) cache_dir: &'a Path,
    /// Offline mode is on, which the advice in errors takes into account.
    pub(crate) offline: bool,
}

/// A commit and the directory of its files.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) commit: String,
    pub(crate) directory: PathBuf,
}

impl CachedRepo<'_> {
    /// The snapshot that `revision` stands for.
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

    /// The commit in `refs/<revision>`, or `None` if there is no such file.
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
                Err(HubError::AmbiguousCommit { repo, revision, commits: hints::first_few(commits) })
            }
        }
    }

    /// The commits that have a snapshot, sorted.
    fn commits(&self) -> Vec<String> {
        let names = hints::names_in(&self.snapshots()).into_iter();
        names
            .filter_map(|name| name.strip_suffix('/').map(str::to_owned))
            .filter(|name| revision::is_commit(name))
            .collect()
    }

    fn uncached_repo(&self) -> HubError {
        let cached = hints::names_in(self.cache_dir).into_iter();
        let cached =
            cached.filter_map(|name| RepoId::from_cache_name(name.strip_suffix('/')?)).map(|repo| repo.to_string());
        HubError::UncachedRepo {
            repo: self.repo.to_string(),
            cache_dir: self.cache_dir.to_owned(),
            offline: self.offline,
            nearest: hints::nearest(&self.repo.to_string(), cached),
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
            known: hints::first_few(known),
        }
    }
}

/// The commit that a file under `refs` holds, or `None` if there is no such file.
pub(crate) fn commit_in_ref(path: &Path) -> Result<Option<String>, HubError> {
    if !path.is_file() {
        return Ok(None);
    }
    let path = path.to_owned();
    let bytes = read_up_to(&path, REF_BYTES).map_err(|source| HubError::Unreadable { path: path.clone(), source })?;
    let commit = String::from_utf8_lossy(&bytes).trim().to_owned();
    if revision::is_commit(&commit) { Ok(Some(commit)) } else { Err(HubError::MalformedRef { path }) }
}

fn read_up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names of the refs below `directory`, with their directories in front: `main`, `refs/pr/1`.
pub(crate) fn collect_refs(directory: &Path, prefix: &str, depth: usize, refs: &mut Vec<String>) {
    for name in hints::names_in(directory) {
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
