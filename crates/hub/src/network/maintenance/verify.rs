//! Verifies a repo of a cache.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    CacheProblem,
    on_disk::{Blob, OnDisk, SnapshotFile},
};
use crate::{
    DownloadEvent, HubError, HubOptions, files,
    network::{
        folder::Folder,
        hash::ContentHash,
        listing::{Entry, Listing},
        lock::Guard,
        store::{Store, split},
    },
};

/// Compares one repo with its hashes and listings.
pub(super) fn verify(
    disk: &OnDisk,
    store: &Store,
    options: &HubOptions,
    remove: bool,
    problems: &mut Vec<CacheProblem>,
) -> Result<(), HubError> {
    for unknown in disk.all_unknown() {
        let problem = format!("{}: it was not verified", unknown.reason);
        problems.push(CacheProblem {
            repo: disk.repo.to_string(),
            path: unknown.path.clone(),
            problem,
            removed: false,
        });
    }
    let Some(folder) = &disk.folder else { return Ok(()) };
    let mut verifying = Verifying { disk, folder, store, remove, gate: Gate::Unknown, problems };
    verifying.blobs(options)?;
    for (commit, files) in &disk.snapshots.commits {
        let listing = store.listing(commit);
        for file in files {
            verifying.file(commit, file, listing.as_ref())?;
        }
    }
    Ok(())
}

struct Verifying<'a> {
    disk: &'a OnDisk,
    folder: &'a Folder,
    store: &'a Store,
    remove: bool,
    gate: Gate,
    problems: &'a mut Vec<CacheProblem>,
}

/// Blocks new loads while something is removed.
enum Gate {
    /// Nothing had to be removed yet.
    Unknown,
    Held(#[expect(dead_code, reason = "its drop unblocks loads")] Guard),
    /// A load is in progress, or the lock cannot be acquired.
    Refused,
}

/// Length and modification time, which change when a file is replaced.
type Stamp = (u64, Option<SystemTime>);

impl Verifying<'_> {
    fn blobs(&mut self, options: &HubOptions) -> Result<(), HubError> {
        let reporter = options.reporter();
        let disk = self.disk;
        let whole: Vec<(&Blob, ContentHash)> = disk
            .blobs
            .iter()
            .filter(|blob| !blob.is_incomplete())
            .filter_map(|blob| Some((blob, blob.hash()?)))
            .collect();
        let bytes = whole.iter().map(|(blob, _)| blob.bytes).fold(0, u64::saturating_add);
        reporter.event(DownloadEvent::Planned { files: whole.len(), bytes });
        for (blob, expected) in whole {
            let (file, bytes) = (blob.name.as_str(), blob.bytes);
            let path = disk.path.join("blobs").join(file);
            reporter.event(DownloadEvent::Started { file, bytes_done: 0, bytes_total: bytes });
            let before = self.stamp("blobs", file);
            let problem = wrong_contents(&expected, &path);
            reporter.event(DownloadEvent::Finished { file, bytes });
            if let Some(problem) = problem {
                let (folder, store) = (self.folder, self.store);
                let remove = || -> Result<bool, HubError> {
                    // A process that downloads it holds its lock, and may have replaced it.
                    let Some(_guard) = store.try_lock(&expected) else { return Ok(false) };
                    let is_same = before.is_some() && stamp(folder, "blobs", file) == before;
                    Ok(is_same && remove_in(folder, "blobs", file)?)
                };
                self.found(path, problem, remove)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, commit: &str, file: &SnapshotFile, listing: Option<&Listing>) -> Result<(), HubError> {
        let path = self.disk.file(commit, file);
        let entry = listing.and_then(|listing| listing.get(&file.name));
        let Some(problem) = problem_of(&path, file, entry) else { return Ok(()) };
        let (below, name) = split(&file.name);
        let (relative, folder, looked_at) = (format!("snapshots/{commit}{below}"), self.folder, path.clone());
        self.found(path, problem, || {
            // It may be complete by now.
            if problem_of(&looked_at, file, entry).is_none() {
                return Ok(false);
            }
            remove_in(folder, &relative, name)
        })
    }

    fn stamp(&self, relative: &str, name: &str) -> Option<Stamp> {
        stamp(self.folder, relative, name)
    }

    /// Records a problem, and with `remove` removes the file unless another process works on it.
    fn found(
        &mut self,
        path: PathBuf,
        mut problem: String,
        remove: impl FnOnce() -> Result<bool, HubError>,
    ) -> Result<(), HubError> {
        let mut removed = false;
        if self.remove {
            removed = self.may_remove() && remove()?;
            if !removed {
                problem.push_str("; it was not removed, as another process works on it");
            }
        }
        self.problems.push(CacheProblem { repo: self.disk.repo.to_string(), path, problem, removed });
        Ok(())
    }

    fn may_remove(&mut self) -> bool {
        if matches!(self.gate, Gate::Unknown) {
            self.gate = match self.store.block_loads() {
                Ok(Some(gate)) => Gate::Held(gate),
                Ok(None) | Err(_) => Gate::Refused,
            };
        }
        matches!(self.gate, Gate::Held(_))
    }
}

fn stamp(folder: &Folder, relative: &str, name: &str) -> Option<Stamp> {
    let metadata = folder.open(relative).ok()??.metadata(name).ok()??;
    Some((metadata.len(), metadata.modified().ok().map(cap_std::time::SystemTime::into_std)))
}

/// Removes a file, or a link but not its target.
fn remove_in(folder: &Folder, relative: &str, name: &str) -> Result<bool, HubError> {
    let Some(folder) = folder.open(relative)? else { return Ok(false) };
    folder.remove_file(name).map_err(|source| HubError::Unwritable { path: folder.path().join(name), source })
}

/// The problem of a file of a snapshot, other than the contents of its blob.
fn problem_of(path: &Path, file: &SnapshotFile, entry: Option<&Entry>) -> Option<String> {
    if files::dangling(path).is_some() {
        return Some("it is a dangling link".to_owned());
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("it cannot be read: {error}")),
    };
    if let Some(found) = files::irregular(metadata.file_type()) {
        return Some(format!("it is {found}, not a regular file"));
    }
    let entry = entry?;
    if metadata.len() != entry.bytes {
        return Some(format!("it has {} bytes, not {}", metadata.len(), entry.bytes));
    }
    match file.blob() {
        Some(blob) => (blob != entry.hash.name()).then(|| "it links to the contents of another file".to_owned()),
        None => wrong_contents(&entry.hash, path),
    }
}

fn wrong_contents(expected: &ContentHash, path: &Path) -> Option<String> {
    match expected.of_file(path) {
        Ok(found) if found == *expected => None,
        Ok(found) => Some(format!("its contents are {found}, not {expected}")),
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}
