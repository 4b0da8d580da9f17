//! From what a user typed to a checkpoint.

use std::path::PathBuf;

use crate::{Checkpoint, Environment, HubError, ModelSource, RepoId, cache::CachedRepo, revision};

/// How a model is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubOptions {
    /// The cache directory; from the environment if `None`.
    pub cache_dir: Option<PathBuf>,
    /// Branch, tag, `refs/pr/N`, commit or unique beginning of a commit; `main` if `None`. Only a repo has revisions.
    pub revision: Option<String>,
    /// Offline mode, as `HF_HUB_OFFLINE` sets it too. The network is never used, so that this changes only what an error
    /// advises about a repo that is not in the cache.
    pub offline: bool,
}

/// Finds the checkpoint that `model` names: a directory, or a repo id in the local Hugging Face cache.
///
/// The environment of the process says where the cache is, see [`Environment`].
///
/// # Errors
/// Whatever keeps the checkpoint from being found, see [`HubError`].
pub fn resolve(model: &str, options: &HubOptions) -> Result<Checkpoint, HubError> {
    resolve_with(model, options, &Environment::from_process())
}

/// [`resolve()`] with an environment of the caller's.
///
/// ```
/// use automodel_hub::{Environment, HubError, HubOptions, resolve_with};
/// let environment = Environment { hf_hub_cache: Some("no-such-cache".into()), ..Environment::default() };
/// let error = resolve_with("Qwen/Qwen3-0.6B", &HubOptions::default(), &environment).unwrap_err();
/// assert!(error.to_string().contains("hf download Qwen/Qwen3-0.6B"));
/// ```
///
/// # Errors
/// Whatever keeps the checkpoint from being found, see [`HubError`].
pub fn resolve_with(model: &str, options: &HubOptions, environment: &Environment) -> Result<Checkpoint, HubError> {
    match ModelSource::parse(model)? {
        ModelSource::Directory(directory) => match &options.revision {
            Some(revision) => Err(HubError::RevisionOfDirectory { revision: revision.clone(), directory }),
            None => Checkpoint::open(directory.clone(), ModelSource::Directory(directory), None),
        },
        ModelSource::Repo(repo) => open_repo(repo, options, environment),
    }
}

fn open_repo(repo: RepoId, options: &HubOptions, environment: &Environment) -> Result<Checkpoint, HubError> {
    let cache_dir = match &options.cache_dir {
        Some(cache_dir) => cache_dir.clone(),
        None => environment.cache_dir()?,
    };
    let offline = options.offline || environment.hf_hub_offline;
    let cached = CachedRepo { repo: &repo, cache_dir: &cache_dir, offline };
    let snapshot = cached.snapshot(options.revision.as_deref().unwrap_or(revision::DEFAULT))?;
    Checkpoint::open(snapshot.directory, ModelSource::Repo(repo), Some(snapshot.commit))
}
