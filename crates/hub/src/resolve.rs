//! From a user's text to a checkpoint.

use std::path::PathBuf;

use crate::{
    Checkpoint, Environment, HubError, HubOptions, ModelSource, RepoId, cached_repo::CachedRepo,
    file_name::is_contained, revision,
};

/// Finds the checkpoint that `model` names: a directory, or a repo id. Files of a repo that are missing in the local Hugging Face cache
/// are downloaded, unless offline mode is on or the feature `network` is off.
///
/// The environment of the process determines the cache and the server, see [`Environment`].
///
/// # Errors
/// See [`HubError`].
pub fn resolve(model: &str, options: &HubOptions) -> Result<Checkpoint, HubError> {
    resolve_with(model, options, &Environment::from_process())
}

/// [`resolve()`] with a given environment.
///
/// ```
/// use automodel_hub::{Environment, HubError, HubOptions, resolve_with};
/// let environment = Environment { hf_hub_cache: Some("no-such-cache".into()), ..Environment::default() };
/// let options = HubOptions { offline: true, ..HubOptions::default() };
/// let error = resolve_with("Qwen/Qwen3-0.6B", &options, &environment).unwrap_err();
/// assert!(error.to_string().contains("is not in the local cache no-such-cache"));
/// ```
///
/// # Errors
/// See [`HubError`].
pub fn resolve_with(model: &str, options: &HubOptions, environment: &Environment) -> Result<Checkpoint, HubError> {
    find(model, options, environment, Wanted::Everything)
}

/// As [`resolve()`], but for a repo that is not in the cache only configuration and headers are read, by range requests: the result is
/// a temporary directory of sparse files without weights, see [`Checkpoint::headers_only`].
///
/// # Errors
/// As [`resolve()`].
pub fn resolve_headers(model: &str, options: &HubOptions) -> Result<Checkpoint, HubError> {
    resolve_headers_with(model, options, &Environment::from_process())
}

/// [`resolve_headers`] with a given environment.
///
/// # Errors
/// As [`resolve()`].
pub fn resolve_headers_with(
    model: &str,
    options: &HubOptions,
    environment: &Environment,
) -> Result<Checkpoint, HubError> {
    find(model, options, environment, Wanted::Headers)
}

/// The lock file entry of `model`, which is downloaded if needed.
///
/// # Errors
/// As [`resolve()`], and [`HubError::InvalidRepoId`] for a directory.
#[cfg(feature = "network")]
pub fn lock(model: &str, options: &HubOptions) -> Result<crate::LockedModel, HubError> {
    lock_with(model, options, &Environment::from_process())
}

/// [`lock`] with a given environment.
///
/// # Errors
/// As [`lock`].
#[cfg(feature = "network")]
pub fn lock_with(model: &str, options: &HubOptions, environment: &Environment) -> Result<crate::LockedModel, HubError> {
    use crate::network::fetch::Load;
    let checkpoint = resolve_with(model, options, environment)?;
    let (ModelSource::Repo(repo), Some(commit)) = (&checkpoint.source, &checkpoint.commit) else {
        let reason = "it is a directory, and only repos are locked";
        return Err(HubError::InvalidRepoId { name: model.to_owned(), reason });
    };
    let cache_dir = cache_dir(options, environment)?;
    let load = Load::new(repo, &cache_dir, options, environment)?;
    let listing = match load.store.listing(commit) {
        Some(listing) => listing,
        None => crate::network::api::listing(&load.client, repo, commit)?,
    };
    let revision = options.revision.as_deref().unwrap_or(revision::DEFAULT);
    let files = load.selected(commit, &listing)?;
    Ok(crate::LockedModel::new(&repo.to_string(), revision, options.subfolder.as_deref(), commit, &files))
}

/// The part of a repo to resolve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Everything,
    Headers,
}

fn find(model: &str, options: &HubOptions, environment: &Environment, wanted: Wanted) -> Result<Checkpoint, HubError> {
    if let Some(subfolder) = options.subfolder.as_ref().filter(|folder| !is_contained(folder)) {
        return Err(HubError::InvalidSubfolder { subfolder: subfolder.clone() });
    }
    match ModelSource::parse(model)? {
        ModelSource::Directory(directory) => match &options.revision {
            Some(revision) => Err(HubError::RevisionOfDirectory { revision: revision.clone(), directory }),
            None => {
                let checkpoint = in_folder(directory.clone(), options);
                Checkpoint::open(checkpoint, ModelSource::Directory(directory), None)
            }
        },
        ModelSource::Repo(repo) => open_repo(repo, options, environment, wanted),
    }
}

fn in_folder(directory: PathBuf, options: &HubOptions) -> PathBuf {
    options.subfolder.as_ref().map_or(directory.clone(), |folder| directory.join(folder))
}

fn cache_dir(options: &HubOptions, environment: &Environment) -> Result<PathBuf, HubError> {
    match &options.cache_dir {
        Some(cache_dir) => Ok(cache_dir.clone()),
        None => environment.cache_dir(),
    }
}

fn open_repo(
    repo: RepoId,
    options: &HubOptions,
    environment: &Environment,
    wanted: Wanted,
) -> Result<Checkpoint, HubError> {
    let cache_dir = cache_dir(options, environment)?;
    let offline = options.offline || environment.hf_hub_offline;
    #[cfg(feature = "network")]
    if !offline {
        return open_from_server(repo, &cache_dir, options, environment, wanted);
    }
    // Cached repos are complete: only a server can provide a part.
    #[cfg(not(feature = "network"))]
    let _ = wanted;
    let cached = CachedRepo { repo: &repo, cache_dir: &cache_dir, offline };
    let snapshot = cached.snapshot(options.revision.as_deref().unwrap_or(revision::DEFAULT))?;
    #[cfg(feature = "network")]
    crate::network::fetch::missing_offline(&repo, &cache_dir, options, &snapshot)?;
    Checkpoint::open(in_folder(snapshot.directory, options), ModelSource::Repo(repo), Some(snapshot.commit))
}

/// Uses the cache, and downloads missing files from the server.
#[cfg(feature = "network")]
fn open_from_server(
    repo: RepoId,
    cache_dir: &std::path::Path,
    options: &HubOptions,
    environment: &Environment,
    wanted: Wanted,
) -> Result<Checkpoint, HubError> {
    use crate::network;

    let load = network::fetch::Load::new(&repo, cache_dir, options, environment)?;
    let pinned = load.pin()?;
    let is_whole = |listing| load.missing(&pinned.commit, listing).is_ok_and(|missing| missing.is_empty());
    if wanted == Wanted::Headers
        && !pinned.listing.as_ref().is_some_and(is_whole)
        && let Some(headers) = network::remote::headers(&load, &pinned)?
    {
        let directory = in_folder(headers.path().to_owned(), options);
        let checkpoint = Checkpoint::open(directory, ModelSource::Repo(repo.clone()), Some(pinned.commit))?;
        return Ok(Checkpoint { headers_only: true, ..checkpoint }.with_owner(headers));
    }
    let snapshot = load.fetch(&pinned)?;
    let directory = in_folder(snapshot.directory, options);
    Checkpoint::open(directory, ModelSource::Repo(repo.clone()), Some(snapshot.commit))
}
