//! What can go wrong while a checkpoint is located.

use std::{io, path::PathBuf};
use thiserror::Error;

use crate::hints::{listed, or_nothing};

/// What can go wrong while a checkpoint is located.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that is neither an existing directory nor a valid repo id.
    #[error(
        "{name:?} is neither an existing directory nor a valid repo id: {reason}; give a directory, or `ORG/NAME` as on \
         https://huggingface.co"
    )]
    InvalidRepoId {
        /// What was given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A path that does not exist.
    #[error(
        "the directory {} does not exist{}{}",
        .path.display(),
        if .path.starts_with("~") { "; a `~` is expanded by the shell, not here" } else { "" },
        listed("; similar names beside it:", .nearest)
    )]
    MissingPath {
        /// What was given.
        path: PathBuf,
        /// Directories with a similar name, nearest first.
        nearest: Vec<String>,
    },
    /// A file where a directory belongs.
    #[error("{} is a file: give the directory that holds the checkpoint, {}", .path.display(), .directory.display())]
    FileGiven {
        /// What was given.
        path: PathBuf,
        /// The directory that the file is in.
        directory: PathBuf,
    },
    /// A directory without a config.json.
    #[error(
        "{} has no config.json, so it is no checkpoint in Hugging Face layout; it holds {}",
        .directory.display(), or_nothing(.found)
    )]
    MissingConfig {
        /// The directory.
        directory: PathBuf,
        /// Names in it, sorted, at most twelve; directories end in `/`.
        found: Vec<String>,
    },
    /// A file of a snapshot whose contents are not there.
    #[error(
        "{} is a link to {}, which does not exist: the download was cut short or the cache was cleaned; download it again",
        .link.display(), .target.display()
    )]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// What it points to, as it is written in the link.
        target: PathBuf,
    },
    /// A repo that the cache does not hold.
    #[error(
        "the repo `{repo}` is not in the local cache {}: run `hf download {repo}`{} first, or give a directory{}",
        .cache_dir.display(),
        if *.offline { " with HF_HUB_OFFLINE unset" } else { "" },
        listed("; similar names in the cache:", .nearest)
    )]
    UncachedRepo {
        /// The repo id.
        repo: String,
        /// The cache that was searched.
        cache_dir: PathBuf,
        /// Offline mode is on.
        offline: bool,
        /// Cached repos with a similar name, nearest first.
        nearest: Vec<String>,
    },
    /// A revision of a cached repo that the cache does not hold.
    #[error(
        "revision `{revision}` of `{repo}` is not in the local cache {}: run `hf download {repo} --revision {revision}`{} \
         first{}",
        .cache_dir.display(),
        if *.offline { " with HF_HUB_OFFLINE unset" } else { "" },
        listed("; the cache holds", .known)
    )]
    UncachedRevision {
        /// The repo id.
        repo: String,
        /// The revision asked for.
        revision: String,
        /// The cache that was searched.
        cache_dir: PathBuf,
        /// Offline mode is on.
        offline: bool,
        /// Branches, tags and commits that are there, at most twelve.
        known: Vec<String>,
    },
    /// A revision whose snapshot is gone from the cache.
    #[error(
        "revision `{revision}` of `{repo}` is commit {commit}, but the directory {} does not exist: run \
         `hf download {repo} --revision {revision}` again", .snapshot.display()
    )]
    MissingSnapshot {
        /// The repo id.
        repo: String,
        /// The revision asked for.
        revision: String,
        /// The commit that it stands for.
        commit: String,
        /// Where the snapshot should be.
        snapshot: PathBuf,
    },
    /// A short commit that several snapshots begin with.
    #[error("revision `{revision}` of `{repo}` fits {}: give more digits of the commit", .commits.join(", "))]
    AmbiguousCommit {
        /// The repo id.
        repo: String,
        /// The revision asked for.
        revision: String,
        /// The commits that begin with it.
        commits: Vec<String>,
    },
    /// Text that no revision can be.
    #[error("{revision:?} is no valid revision: {reason}; give a branch, a tag, `refs/pr/N` or a commit")]
    InvalidRevision {
        /// The revision asked for.
        revision: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A file under `refs/` of the cache that holds no commit.
    #[error("{} holds no commit of 40 hexadecimal digits: delete it and download the repo again", .path.display())]
    MalformedRef {
        /// The file.
        path: PathBuf,
    },
    /// No cache directory could be derived from the environment.
    #[error("no Hugging Face cache directory is known: set HF_HUB_CACHE, HF_HOME or HOME")]
    UnknownCacheDir,
    /// A revision for a directory, which has none.
    #[error("revision `{revision}` was asked for, but {} is a directory: leave the revision out", .directory.display())]
    RevisionOfDirectory {
        /// The revision asked for.
        revision: String,
        /// The directory.
        directory: PathBuf,
    },
    /// A file or directory that could not be read.
    #[error("{} cannot be read: check that it exists and may be read", .path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}
