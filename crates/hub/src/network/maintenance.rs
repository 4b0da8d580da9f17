//! The care of a cache: what is in it, whether that is what it should be, and what may go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{hash::ContentHash, listing::Listing, store::Store};
use crate::{
    Environment, HubError, HubOptions, ProgressEvent, RepoId,
    cache::{REF_DEPTH, collect_refs, commit_in_ref},
    revision,
};

/// Folders of folders that are looked at in a snapshot.
const DEPTH: usize = 8;

/// What a cache holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheReport {
    /// The cache directory.
    pub directory: PathBuf,
    /// Bytes on disk, contents that several commits share counted once.
    pub bytes: u64,
    /// The repos of models, by name.
    pub repos: Vec<RepoReport>,
}

/// What a cache holds of one repo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepoReport {
    /// The repo id.
    pub repo: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Of these, bytes of downloads that are not finished.
    pub incomplete_bytes: u64,
    /// The commits, with and without a branch or tag.
    pub revisions: Vec<CachedRevision>,
}

/// What a cache holds of one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that lead to it.
    pub refs: Vec<String>,
    /// Number of files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Something in a cache that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheProblem {
    /// The repo id.
    pub repo: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// It was removed, so that the next load fetches it again.
    pub removed: bool,
}

/// Something that a cache need not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// The repo id.
    pub repo: String,
    /// What goes.
    pub path: PathBuf,
    /// Bytes that become free.
    pub bytes: u64,
    /// Why it may go.
    pub reason: &'static str,
}

/// One repo in a cache, as it is on disk.
struct OnDisk {
    repo: RepoId,
    directory: PathBuf,
    blobs: Vec<File>,
    refs: BTreeMap<String, Vec<String>>,
    snapshots: BTreeMap<String, Vec<PathBuf>>,
}

struct File {
    path: PathBuf,
    name: String,
    bytes: u64,
}

/// What is in the cache.
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
    let repos: Vec<RepoReport> = repos(&directory)?.iter().map(OnDisk::report).collect();
    Ok(CacheReport { bytes: repos.iter().map(|repo| repo.bytes).sum(), directory, repos })
}

/// Compares every file of the cache, or of one repo, with its hash, and every snapshot with the list of its commit. Damaged
/// contents and links that lead nowhere are removed if `remove` says so.
///
/// # Errors
/// As [`list_cache`]; [`HubError::UncachedRepo`] if the cache does not hold the repo; [`HubError::Unwritable`] for what cannot be
/// removed.
pub fn verify_cache(
    options: &HubOptions,
    environment: &Environment,
    repo: Option<&RepoId>,
    remove: bool,
) -> Result<Vec<CacheProblem>, HubError> {
    let directory = cache_dir(options, environment)?;
    let all = repos(&directory)?;
    if let Some(repo) = repo.filter(|repo| all.iter().all(|other| other.repo != **repo)) {
        let nearest = crate::hints::nearest(&repo.to_string(), all.iter().map(|other| other.repo.to_string()));
        return Err(HubError::UncachedRepo { repo: repo.to_string(), cache_dir: directory, offline: false, nearest });
    }
    let mut problems = Vec::new();
    for on_disk in all.iter().filter(|other| repo.is_none_or(|repo| other.repo == *repo)) {
        on_disk.verify(options, remove, &mut problems)?;
    }
    Ok(problems)
}

/// Removes commits that no branch and no tag leads to, contents that no commit has, and downloads that were not finished.
/// Whatever another process works on stays. With `dry_run` nothing is removed.
///
/// # Errors
/// As [`list_cache`], and [`HubError::Unwritable`] for what cannot be removed.
pub fn prune_cache(options: &HubOptions, environment: &Environment, dry_run: bool) -> Result<Vec<Pruned>, HubError> {
    let directory = cache_dir(options, environment)?;
    let mut pruned = Vec::new();
    for repo in repos(&directory)? {
        let store = Store::new(&directory, &repo.repo, options.locking);
        repo.prune(&store, dry_run, &mut pruned)?;
    }
    Ok(pruned)
}

fn cache_dir(options: &HubOptions, environment: &Environment) -> Result<PathBuf, HubError> {
    options.cache_dir.clone().map_or_else(|| environment.cache_dir(), Ok)
}

fn repos(cache_dir: &Path) -> Result<Vec<OnDisk>, HubError> {
    if !cache_dir.exists() {
        return Ok(Vec::new());
    }
    let mut repos = Vec::new();
    for name in names(cache_dir)? {
        let directory = cache_dir.join(&name);
        if let Some(repo) = RepoId::from_cache_name(&name).filter(|_| directory.is_dir()) {
            repos.push(OnDisk::read(repo, directory)?);
        }
    }
    repos.sort_by_key(|repo| repo.repo.to_string());
    Ok(repos)
}

/// Names in a directory; none if there is no such directory.
fn names(directory: &Path) -> Result<Vec<String>, HubError> {
    let unreadable = |source| HubError::Unreadable { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Files below a directory, links included and not followed.
fn files_below(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), HubError> {
    for name in names(directory)? {
        let path = directory.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() && depth > 0 => files_below(&path, depth - 1, files)?,
            Ok(metadata) if !metadata.is_dir() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(HubError::Unwritable { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

impl OnDisk {
    fn read(repo: RepoId, directory: PathBuf) -> Result<Self, HubError> {
        let blobs = directory.join("blobs");
        let blobs = names(&blobs)?.into_iter().filter_map(|name| {
            let path = blobs.join(&name);
            let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            Some(File { path, name, bytes: metadata.len() })
        });
        let blobs = blobs.collect();
        let mut ref_names = Vec::new();
        collect_refs(&directory.join("refs"), "", REF_DEPTH, &mut ref_names);
        let mut refs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in ref_names {
            if let Ok(Some(commit)) = commit_in_ref(&directory.join("refs").join(&name)) {
                refs.entry(commit).or_default().push(name);
            }
        }
        let mut snapshots = BTreeMap::new();
        for commit in names(&directory.join("snapshots"))?.into_iter().filter(|name| revision::is_commit(name)) {
            let mut files = Vec::new();
            files_below(&directory.join("snapshots").join(&commit), DEPTH, &mut files)?;
            snapshots.insert(commit, files);
        }
        Ok(Self { repo, directory, blobs, refs, snapshots })
    }

    fn report(&self) -> RepoReport {
        let incomplete = self.blobs.iter().filter(|blob| blob.is_incomplete());
        let revisions = self.snapshots.iter().map(|(commit, files)| CachedRevision {
            commit: commit.clone(),
            refs: self.refs.get(commit).cloned().unwrap_or_default(),
            files: files.len(),
            bytes: files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum(),
        });
        // Where there are no links, the files of snapshots are what takes the space.
        let own = self.snapshots.values().flatten().filter(|file| !file.is_symlink());
        let own: u64 = own.filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum();
        RepoReport {
            repo: self.repo.to_string(),
            bytes: self.blobs.iter().map(|blob| blob.bytes).sum::<u64>().saturating_add(own),
            incomplete_bytes: incomplete.map(|blob| blob.bytes).sum(),
            revisions: revisions.collect(),
        }
    }

    fn verify(&self, options: &HubOptions, remove: bool, problems: &mut Vec<CacheProblem>) -> Result<(), HubError> {
        let reporter = options.reporter();
        let whole: Vec<&File> = self.blobs.iter().filter(|blob| !blob.is_incomplete()).collect();
        let bytes = whole.iter().map(|blob| blob.bytes).sum();
        reporter.event(ProgressEvent::Planned { files: whole.len(), bytes });
        for blob in whole {
            let Some(expected) = ContentHash::from_name(&blob.name) else { continue };
            let (file, bytes) = (blob.name.as_str(), blob.bytes);
            reporter.event(ProgressEvent::Started { file, bytes_done: 0, bytes_total: bytes });
            let problem = match expected.of_file(&blob.path) {
                Ok(found) if found == expected => None,
                Ok(found) => Some(format!("its contents are {found}, not {expected}")),
                Err(error) => Some(format!("it cannot be read: {error}")),
            };
            reporter.event(ProgressEvent::Finished { file, bytes });
            if let Some(problem) = problem {
                self.found(&blob.path, problem, remove, problems)?;
            }
        }
        for (commit, files) in &self.snapshots {
            let listing = Listing::read(&self.directory.join("trees").join(format!("{commit}.json")));
            let snapshot = self.directory.join("snapshots").join(commit);
            for path in files {
                if let Some(problem) = self.problem_of(path, &snapshot, listing.as_ref()) {
                    self.found(path, problem, remove, problems)?;
                }
            }
        }
        Ok(())
    }

    /// What is wrong with a file of a snapshot, besides the contents of its blob.
    fn problem_of(&self, path: &Path, snapshot: &Path, listing: Option<&Listing>) -> Option<String> {
        let Ok(metadata) = fs::metadata(path) else { return Some("it is a link that leads nowhere".to_owned()) };
        let name = path.strip_prefix(snapshot).ok()?;
        let name: Vec<&str> = name.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
        let entry = listing?.get(&name.join("/"))?;
        if metadata.len() != entry.bytes {
            return Some(format!("it has {} bytes, not {}", metadata.len(), entry.bytes));
        }
        if let Ok(link) = fs::read_link(path) {
            let blob = link.file_name().and_then(|name| name.to_str());
            return (blob != Some(entry.hash.name())).then(|| "it leads to the contents of another file".to_owned());
        }
        match entry.hash.of_file(path) {
            Ok(found) if found == entry.hash => None,
            Ok(found) => Some(format!("its contents are {found}, not {}", entry.hash)),
            Err(error) => Some(format!("it cannot be read: {error}")),
        }
    }

    fn found(
        &self,
        path: &Path,
        problem: String,
        remove: bool,
        problems: &mut Vec<CacheProblem>,
    ) -> Result<(), HubError> {
        if remove {
            remove_file(path)?;
        }
        problems.push(CacheProblem { repo: self.repo.to_string(), path: path.to_owned(), problem, removed: remove });
        Ok(())
    }

    fn prune(&self, store: &Store, dry_run: bool, pruned: &mut Vec<Pruned>) -> Result<(), HubError> {
        let mut add = |path: &Path, bytes, reason| {
            pruned.push(Pruned { repo: self.repo.to_string(), path: path.to_owned(), bytes, reason });
        };
        let (kept, unreferenced): (Vec<_>, Vec<_>) =
            self.snapshots.iter().partition(|(commit, _)| self.refs.contains_key(*commit));
        // The branch is written when a download is whole: until then the commit belongs to it.
        let mut names = self.blobs.iter().filter(|blob| blob.is_incomplete()).map(File::hash_name);
        let is_growing = names.any(|name| store.try_lock(name).is_none());
        for (commit, files) in unreferenced.into_iter().filter(|_| !is_growing) {
            let path = self.directory.join("snapshots").join(commit);
            let own = files.iter().filter(|file| !file.is_symlink());
            add(
                &path,
                own.filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum(),
                "no branch and no tag leads to it",
            );
            if !dry_run {
                fs::remove_dir_all(&path).map_err(|source| HubError::Unwritable { path, source })?;
                remove_file(&self.directory.join("trees").join(format!("{commit}.json")))?;
            }
        }
        let used: BTreeSet<String> = kept
            .iter()
            .flat_map(|(_, files)| files.iter())
            .chain(self.snapshots.values().flatten().filter(|_| is_growing))
            .filter_map(|file| Some(fs::read_link(file).ok()?.file_name()?.to_str()?.to_owned()))
            .collect();
        for blob in self.blobs.iter().filter(|blob| !used.contains(&blob.name)) {
            let reason = if blob.is_incomplete() { "its download was not finished" } else { "no commit has it" };
            // Whoever downloads it, or is about to link it, holds its lock.
            let Some(_guard) = store.try_lock(blob.hash_name()) else { continue };
            add(&blob.path, blob.bytes, reason);
            if !dry_run {
                remove_file(&blob.path)?;
            }
        }
        Ok(())
    }
}

impl File {
    fn hash_name(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    fn is_incomplete(&self) -> bool {
        self.name.ends_with(".incomplete")
    }
}
