//! Maintenance of a cache: list, verify and prune.
//!
//! Links are not followed, see [`Folder`], and whatever cannot be read is kept.

mod on_disk;
mod prune;
mod verify;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    folder::{Entry, Folder},
    store::Store,
};
use crate::{Environment, HubError, HubOptions, RepoId};
use on_disk::OnDisk;

/// Maximum of entries of one directory, and of one repo.
const ENTRIES: usize = 1_000_000;

/// The contents of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheReport {
    /// The cache directory.
    pub directory: PathBuf,
    /// Bytes on disk; contents that several commits share count once.
    pub bytes: u64,
    /// The repos of models, by name.
    pub repos: Vec<RepoReport>,
}

/// The contents of a cache for one repo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepoReport {
    /// The repo id.
    pub repo: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Of these, bytes of unfinished downloads.
    pub incomplete_bytes: u64,
    /// The commits, with and without a branch or tag.
    pub revisions: Vec<CachedRevision>,
    /// Items that could not be read, and why.
    pub unknown: Vec<Kept>,
}

/// The contents of a cache for one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that point to it.
    pub refs: Vec<String>,
    /// Number of files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// A problem in a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheProblem {
    /// The repo id.
    pub repo: String,
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: String,
    /// It was removed, so that the next load downloads it again.
    pub removed: bool,
}

/// The result of pruning a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// Items that were removed, or would be in a dry run.
    pub removed: Vec<Pruned>,
    /// Items that are kept because it is unknown whether they are needed.
    pub kept: Vec<Kept>,
}

/// An unneeded item of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// The repo id.
    pub repo: String,
    /// Its path.
    pub path: PathBuf,
    /// Bytes that are freed.
    pub bytes: u64,
    /// Why it is unneeded.
    pub reason: &'static str,
}

/// An item of a cache that is kept because it could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Kept {
    /// The repo id.
    pub repo: String,
    /// Its path.
    pub path: PathBuf,
    /// The reason, and what is kept because of it.
    pub reason: String,
}

/// Lists the cache.
///
/// ```
/// use automodel_hub::{Environment, HubOptions, list_cache};
/// let options = HubOptions { cache_dir: Some("no-such-cache".into()), ..HubOptions::default() };
/// assert!(list_cache(&options, &Environment::default())?.repos.is_empty());
/// # Ok::<(), automodel_hub::HubError>(())
/// ```
///
/// # Errors
/// [`HubError::UnknownCacheDir`], or [`HubError::Unreadable`] if the directory exists and cannot be read.
pub fn list_cache(options: &HubOptions, environment: &Environment) -> Result<CacheReport, HubError> {
    let directory = cache_dir(options, environment)?;
    let mut repos = Vec::new();
    for (cache, repo) in Repos::of(&directory)?.iter() {
        repos.push(OnDisk::read(cache, repo).report());
    }
    Ok(CacheReport { bytes: repos.iter().map(|repo| repo.bytes).sum(), directory, repos })
}

/// Compares every file of the cache, or of one repo, with its hash, and every snapshot with the listing of its commit. With `remove`,
/// corrupt contents and dangling links are removed, unless a load of the repo is in progress.
///
/// # Errors
/// As [`list_cache`]; [`HubError::UncachedRepo`] if the repo is not in the cache; [`HubError::Unwritable`] if removal
/// fails.
pub fn verify_cache(
    options: &HubOptions,
    environment: &Environment,
    repo: Option<&RepoId>,
    remove: bool,
) -> Result<Vec<CacheProblem>, HubError> {
    let directory = cache_dir(options, environment)?;
    let all = Repos::of(&directory)?;
    if let Some(repo) = repo.filter(|repo| !all.repos.contains(repo)) {
        let nearest = crate::suggestions::nearest(&repo.to_string(), all.repos.iter().map(RepoId::to_string));
        return Err(HubError::UncachedRepo { repo: repo.to_string(), cache_dir: directory, offline: false, nearest });
    }
    let mut problems = Vec::new();
    for (cache, other) in all.iter().filter(|(_, other)| repo.is_none_or(|repo| repo == *other)) {
        let store = Store::new(&directory, other, options.locking);
        verify::verify(&OnDisk::read(cache, other), &store, options, remove, &mut problems)?;
    }
    Ok(problems)
}

/// Removes commits that no branch and no tag points to, contents that no commit uses, and unfinished downloads. Kept is whatever another
/// process works on and whatever might be needed: targets of links, and what unreadable branches or commits may use. With `dry_run`
/// nothing is removed.
///
/// # Errors
/// As [`list_cache`], and [`HubError::Unwritable`] if removal fails.
pub fn prune_cache(options: &HubOptions, environment: &Environment, dry_run: bool) -> Result<PruneReport, HubError> {
    let directory = cache_dir(options, environment)?;
    let repos = Repos::of(&directory)?;
    let foreign: Vec<(&RepoId, BTreeSet<String>)> =
        repos.iter().map(|(cache, repo)| (repo, OnDisk::read(cache, repo).foreign_blobs())).collect();
    let mut report = PruneReport::default();
    for (cache, repo) in repos.iter() {
        let store = Store::new(&directory, repo, options.locking);
        let others = foreign.iter().filter(|(other, _)| *other != repo).flat_map(|(_, names)| names);
        prune::prune(cache, repo, &store, &others.map(String::as_str).collect(), dry_run, &mut report)?;
    }
    Ok(report)
}

fn cache_dir(options: &HubOptions, environment: &Environment) -> Result<PathBuf, HubError> {
    options.cache_dir.clone().map_or_else(|| environment.cache_dir(), Ok)
}

/// The repos of a cache.
struct Repos {
    /// The cache directory, if it exists.
    cache: Option<Folder>,
    /// In the order of their names.
    repos: Vec<RepoId>,
}

impl Repos {
    fn of(directory: &Path) -> Result<Self, HubError> {
        let Some(cache) = Folder::root(directory)? else { return Ok(Self { cache: None, repos: Vec::new() }) };
        let unreadable = |source| HubError::Unreadable { path: directory.to_owned(), source };
        let entries = cache.entries(ENTRIES).map_err(unreadable)?.into_iter();
        let of_repos = entries.filter(|(_, entry)| matches!(entry, Entry::Folder | Entry::Link));
        let mut repos: Vec<RepoId> = of_repos.filter_map(|(name, _)| RepoId::from_cache_name(&name)).collect();
        repos.sort_by_key(RepoId::to_string);
        Ok(Self { cache: Some(cache), repos })
    }

    fn iter(&self) -> impl Iterator<Item = (&Folder, &RepoId)> {
        self.cache.iter().flat_map(|cache| self.repos.iter().map(move |repo| (cache, repo)))
    }
}
