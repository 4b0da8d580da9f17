//! From a repo id to a pinned, complete and verified snapshot.

use std::{collections::BTreeSet, path::Path};

use super::{
    api,
    client::Client,
    download::Download,
    in_use::InUse,
    listing::{Entry, Listing},
    lock_file::{LockFile, LockedModel},
    parallel,
    select::{Index, Selection},
    store::Store,
};
use crate::{
    DownloadEvent, Environment, HubError, HubOptions, RepoId,
    auxiliary::SMALL,
    cached_repo::{CachedRepo, Snapshot},
    file_name::is_contained,
    files,
    options::Reporter,
    revision,
};

/// Maximum size of a shard index.
pub(crate) const INDEX_BYTES: u64 = 100_000_000;
/// Attempts to request the commit of a branch that is in the cache.
const ATTEMPTS_IF_CACHED: u32 = 2;

/// One load of one repo.
pub(crate) struct Load<'a> {
    pub(crate) repo: &'a RepoId,
    repo_name: String,
    pub(crate) options: &'a HubOptions,
    cached: CachedRepo<'a>,
    pub(crate) client: Client,
    pub(crate) store: Store,
    progress: Reporter,
    /// Empty, or a folder with `/` at its end.
    pub(crate) folder: String,
    locked: Option<LockedModel>,
}

/// A commit, and its files if they are known. They are unknown only if the server cannot be reached and the cached snapshot looks
/// complete.
pub(crate) struct Pinned {
    pub(crate) commit: String,
    pub(crate) listing: Option<Listing>,
    /// The listing comes from the server and is not in the cache yet.
    is_new: bool,
}

impl<'a> Load<'a> {
    pub(crate) fn new(
        repo: &'a RepoId,
        cache_dir: &'a Path,
        options: &'a HubOptions,
        environment: &Environment,
    ) -> Result<Self, HubError> {
        let folder = options.subfolder.as_ref().map_or(String::new(), |folder| format!("{folder}/"));
        let locked = match &options.lock_file {
            Some(path) => Some(LockFile::read(path)?.entry(path, &repo.to_string(), options)?),
            None => None,
        };
        Ok(Self {
            repo,
            repo_name: repo.to_string(),
            options,
            cached: CachedRepo { repo, cache_dir, offline: false },
            client: Client::new(options, environment)?,
            store: Store::new(cache_dir, repo, options.locking),
            progress: options.reporter(),
            folder,
            locked,
        })
    }

    fn revision(&self) -> &'a str {
        self.options.revision.as_deref().unwrap_or(revision::DEFAULT)
    }

    /// Resolves the revision to a commit once, so that later pushes have no effect, and lists its files.
    pub(crate) fn pin(&self) -> Result<Pinned, HubError> {
        revision::check(self.revision())?;
        let (commit, unreachable) = match &self.locked {
            Some(locked) => (locked.commit.clone(), None),
            None => self.commit()?,
        };
        let kept = self.store.listing(&commit);
        let is_new = kept.is_none();
        let listing = match (kept, unreachable) {
            (Some(listing), _) => Some(listing),
            (None, Some(_)) => None,
            (None, None) => match api::listing(&self.client, self.repo, &commit) {
                Ok(listing) => Some(listing),
                Err(error) if is_of_network(&error) && self.looks_whole(&commit) => {
                    self.warn_of_cache(&commit, &error);
                    None
                }
                Err(error) => return Err(error),
            },
        };
        if let (Some(locked), Some(listing)) = (&self.locked, &listing) {
            locked.check_listing(self.options, &self.repo_name, listing)?;
        }
        Ok(Pinned { commit, listing, is_new })
    }

    /// The commit of the revision; with an error if the server did not respond and the cache has all of it.
    fn commit(&self) -> Result<(String, Option<HubError>), HubError> {
        let revision = self.revision();
        if revision::is_commit(revision) {
            return Ok((revision.to_owned(), None));
        }
        let cached = self.store.commit_of(revision);
        let most = cached.is_some().then_some(ATTEMPTS_IF_CACHED);
        let error = match api::commit(&self.client, self.repo, revision, most) {
            Ok(commit) => return Ok((commit, None)),
            Err(error) => error,
        };
        let may_fall_back = is_of_network(&error) || is_of_access(&error);
        match cached {
            Some(commit) if may_fall_back && self.is_whole(&commit) => {
                self.warn_of_cache(&commit, &error);
                Ok((commit, Some(error)))
            }
            None if matches!(error, HubError::UnknownRevision { .. }) && revision::is_short_commit(revision) => {
                let snapshot = self.cached.snapshot(revision).map_err(|_| error)?;
                Ok((snapshot.commit, None))
            }
            _ => Err(error),
        }
    }

    fn warn_of_cache(&self, commit: &str, error: &HubError) {
        let text =
            format!("{error}; commit {commit} of `{}` from the cache is used, which may not be the latest", self.repo);
        self.progress.warn(&text);
    }

    /// Whether the cache has all files of the commit, as far as is known.
    fn is_whole(&self, commit: &str) -> bool {
        match self.store.listing(commit) {
            Some(listing) => {
                let missing = self.missing(commit, &listing);
                missing.is_ok_and(|missing| !missing.into_iter().any(|entry| self.is_essential(entry)))
            }
            None => self.looks_whole(commit),
        }
    }

    /// Whether a model cannot be loaded without the file. Tokenizers often come in several forms, of which other programs download only
    /// one.
    fn is_essential(&self, entry: &Entry) -> bool {
        let name = entry.name.strip_prefix(&self.folder).unwrap_or(&entry.name);
        name == "config.json" || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
    }

    /// Whether there is a config and all weights, without a listing of the other files.
    fn looks_whole(&self, commit: &str) -> bool {
        let directory = self.store.snapshot(commit).join(&self.folder);
        let has_weights = || match self.index_text(commit) {
            _ if directory.join("model.safetensors").is_file() => true,
            Some(text) => shards_are_in(&directory, &text),
            None => false,
        };
        directory.join("config.json").is_file() && has_weights()
    }

    pub(crate) fn selection<'s>(&'s self, commit: &'s str, listing: &'s Listing) -> Selection<'s> {
        Selection { listing, folder: &self.folder, repo: &self.repo_name, commit }
    }

    /// The index of the snapshot.
    fn index_text(&self, commit: &str) -> Option<Vec<u8>> {
        let name = format!("{}model.safetensors.index.json", self.folder);
        files::read(&self.store.snapshot(commit).join(name), INDEX_BYTES).ok()
    }

    /// Files of a load that the snapshot lacks. Without the index the shards are unknown, but then the index itself is missing.
    pub(crate) fn missing<'s>(&'s self, commit: &'s str, listing: &'s Listing) -> Result<Vec<&'s Entry>, HubError> {
        let selection = self.selection(commit, listing);
        let mut files = selection.small_files()?;
        let index = selection.index();
        if index.is_none_or(|index| self.store.has(commit, index)) {
            let text = index.map(|_| self.index_text(commit).unwrap_or_default());
            files.extend(selection.weights(text.as_deref())?);
        }
        files.retain(|entry| !self.store.has(commit, entry));
        Ok(files)
    }

    /// Downloads the missing files of a commit.
    pub(crate) fn fetch(&self, pinned: &Pinned) -> Result<Snapshot, HubError> {
        let commit = pinned.commit.as_str();
        let directory = self.store.snapshot(commit);
        if let Some(listing) = &pinned.listing {
            let is_there = self.missing(commit, listing)?.is_empty();
            let has_ref = self.locked.is_some() || self.store.has_ref(self.revision(), commit);
            // From here until the ref is written, no process removes contents of the repo.
            let _in_use = if is_there && has_ref { None } else { self.begin(is_there)? };
            if pinned.is_new {
                self.store.keep_listing(commit, listing);
            }
            let missing = self.missing(commit, listing)?;
            if !missing.is_empty() {
                self.store.prepare()?;
                self.download(commit, &missing)?;
                // The shards of the index; once more if another process pruned the cache meanwhile.
                for _ in 0..2 {
                    self.download(commit, &self.missing(commit, listing)?)?;
                }
                let absent = SMALL.iter().filter(|name| self.folder.is_empty() && listing.get(name).is_none());
                absent.for_each(|name| self.store.note_absent(commit, name));
            }
            if let Some(locked) = &self.locked {
                locked.check_files(self.options, &self.repo_name, &self.selected(commit, listing)?, &directory)?;
            } else if let Err(error) = self.store.write_ref(self.revision(), commit)
                && !missing.is_empty()
            {
                return Err(error);
            }
        } else if let Some(locked) = &self.locked {
            return Err(locked.without_list(self.options, &self.repo_name));
        }
        Ok(Snapshot { commit: commit.to_owned(), directory })
    }

    /// Prevents pruning of the repo. A read-only cache works without this, if it has all files.
    fn begin(&self, is_there: bool) -> Result<Option<InUse>, HubError> {
        match self.store.begin_load(&mut || self.client.check_stopped()) {
            Err(_) if is_there => Ok(None),
            result => result.map(Some),
        }
    }

    /// All files of a load, which must be in the cache.
    pub(crate) fn selected<'s>(&'s self, commit: &'s str, listing: &'s Listing) -> Result<Vec<&'s Entry>, HubError> {
        let selection = self.selection(commit, listing);
        let mut files = selection.small_files()?;
        let text = selection.index().map(|_| self.index_text(commit).unwrap_or_default());
        files.extend(selection.weights(text.as_deref())?);
        Ok(files)
    }

    fn download(&self, commit: &str, files: &[&Entry]) -> Result<(), HubError> {
        let bytes = files.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
        if !files.is_empty() {
            self.progress.event(DownloadEvent::Planned { files: files.len(), bytes });
        }
        let blobs = &self.store.blobs()?;
        let download = |entry: &&Entry| {
            let (client, store, repo, progress) = (&self.client, &self.store, self.repo, &self.progress);
            let skip_hash = self.options.skip_hashes;
            Download { client, store, blobs, repo, commit, entry, skip_hash, progress }.run()
        };
        parallel::for_each(files, self.options.parallel, || self.client.stop(), download)
    }
}

/// Whether the server could not be reached.
pub(crate) fn is_of_network(error: &HubError) -> bool {
    matches!(error, HubError::Unreachable { .. } | HubError::ServerBusy { .. } | HubError::InvalidResponse { .. })
}

/// Whether the server denied access.
fn is_of_access(error: &HubError) -> bool {
    use HubError::{Forbidden, Gated, RefusedToken, UnknownRepo};
    matches!(error, Gated { .. } | UnknownRepo { .. } | RefusedToken { .. } | Forbidden { .. })
}

fn shards_are_in(directory: &Path, index: &[u8]) -> bool {
    let is_there = |name: &String| is_contained(name) && directory.join(name).is_file();
    Index::parse(index).is_ok_and(|index| index.weight_map.values().collect::<BTreeSet<_>>().into_iter().all(is_there))
}

/// An error or a warning for files that a cached snapshot lacks, if the cache has the listing of its commit.
pub(crate) fn missing_offline(
    repo: &RepoId,
    cache_dir: &Path,
    options: &HubOptions,
    snapshot: &Snapshot,
) -> Result<(), HubError> {
    let load = Load::new(repo, cache_dir, options, &Environment::default())?;
    if let Some(locked) = &load.locked
        && locked.commit != snapshot.commit
    {
        return Err(locked.other_commit(options, &load.repo_name, &snapshot.commit));
    }
    let Some(listing) = load.store.listing(&snapshot.commit) else {
        return load.locked.as_ref().map_or(Ok(()), |locked| Err(locked.without_list(options, &load.repo_name)));
    };
    let missing = load.missing(&snapshot.commit, &listing)?;
    if missing.iter().any(|entry| load.is_essential(entry)) {
        return Err(HubError::IncompleteSnapshot {
            repo: repo.to_string(),
            commit: snapshot.commit.clone(),
            missing: crate::suggestions::first_few(missing.into_iter().map(|entry| entry.name.clone()).collect()),
            offline: true,
        });
    }
    for entry in missing {
        load.progress
            .warn(&format!("{} of `{repo}` is not in the cache, and offline mode forbids downloads", entry.name));
    }
    if let Some(locked) = &load.locked {
        locked.check_listing(options, &load.repo_name, &listing)?;
        locked.check_files(
            options,
            &load.repo_name,
            &load.selected(&snapshot.commit, &listing)?,
            &snapshot.directory,
        )?;
    }
    Ok(())
}
