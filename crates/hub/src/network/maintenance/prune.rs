//! Removes the unneeded items of a repo.

use std::collections::BTreeSet;

use super::{
    Kept, PruneReport, Pruned,
    on_disk::{Blob, OnDisk, SnapshotFile, Snapshots, reason},
};
use crate::{
    HubError, RepoId,
    network::{folder::Folder, lock::Guard, store::Store},
};

/// Maximum of blobs whose locks are held at once.
const BATCH: usize = 200;

/// Prunes one repo. `foreign` has the names of blobs that other repos link to.
pub(super) fn prune(
    cache: &Folder,
    repo: &RepoId,
    store: &Store,
    foreign: &BTreeSet<&str>,
    dry_run: bool,
    report: &mut PruneReport,
) -> Result<(), HubError> {
    let path = cache.path().join(repo.cache_name());
    if let Err(error) = cache.open(&repo.cache_name()) {
        let reason = reason(&error);
        report.kept.push(Kept { repo: repo.to_string(), path, reason });
        return Ok(());
    }
    let _gate = match store.block_loads() {
        Ok(Some(gate)) => gate,
        Ok(None) => {
            let reason = "a load of it is in progress, so it is kept".to_owned();
            report.kept.push(Kept { repo: repo.to_string(), path, reason });
            return Ok(());
        }
        Err(error) => {
            let reason = format!("it cannot be locked, so it is kept: {}", self::reason(&error));
            report.kept.push(Kept { repo: repo.to_string(), path, reason });
            return Ok(());
        }
    };
    Cleaning { disk: &OnDisk::read(cache, repo), store, foreign, dry_run, report }.run()
}

struct Cleaning<'a> {
    disk: &'a OnDisk,
    store: &'a Store,
    foreign: &'a BTreeSet<&'a str>,
    dry_run: bool,
    report: &'a mut PruneReport,
}

impl Cleaning<'_> {
    fn run(mut self) -> Result<(), HubError> {
        let Some(folder) = &self.disk.folder else { return Ok(()) };
        let removed = self.snapshots(folder)?;
        self.blobs(folder, &removed)
    }

    /// Removes the commits without a ref, and returns them.
    fn snapshots(&mut self, folder: &Folder) -> Result<BTreeSet<String>, HubError> {
        let (repo, disk) = (&self.disk.repo, self.disk);
        let of_refs = disk.unknown_refs.iter().map(|unknown| unknown.kept(repo, "; all commits are kept"));
        let of_snapshots = disk
            .snapshots
            .unknown
            .iter()
            .map(|unknown| unknown.kept(repo, "; all commits and their contents are kept"));
        let of_others = disk.unknown.iter().map(|unknown| unknown.kept(repo, ""));
        self.report.kept.extend(of_refs.chain(of_snapshots).chain(of_others));
        let mut removed = BTreeSet::new();
        if !disk.unknown_refs.is_empty() || !disk.snapshots.unknown.is_empty() || self.is_growing() {
            return Ok(removed);
        }
        let unreferenced = disk.snapshots.commits.iter().filter(|(commit, _)| !disk.refs.contains_key(*commit));
        for (commit, files) in unreferenced {
            self.remove_snapshot(folder, commit, files)?;
            removed.insert(commit.clone());
        }
        Ok(removed)
    }

    /// Whether a program without a load lock is downloading. Its commit may have no ref yet.
    fn is_growing(&self) -> bool {
        let mut incomplete = self.disk.blobs.iter().filter(|blob| blob.is_incomplete()).filter_map(Blob::hash);
        incomplete.any(|hash| self.store.try_lock(&hash).is_none())
    }

    fn remove_snapshot(&mut self, folder: &Folder, commit: &str, files: &[SnapshotFile]) -> Result<(), HubError> {
        let repo = self.disk.repo.to_string();
        let path = self.disk.path.join("snapshots").join(commit);
        let bytes = self.disk.own_bytes(commit, files);
        if !self.dry_run {
            let unwritable = |source| HubError::Unwritable { path: path.clone(), source };
            if let Some(snapshots) = folder.open("snapshots")? {
                snapshots.remove_folder(commit).map_err(unwritable)?;
            }
        }
        self.report.removed.push(Pruned {
            repo: repo.clone(),
            path,
            bytes,
            reason: "no branch and no tag points to it",
        });
        let name = format!("{commit}.json");
        match folder.open("trees") {
            Ok(Some(trees)) if !self.dry_run => {
                let unwritable = |source| HubError::Unwritable { path: trees.path().join(&name), source };
                trees.remove_file(&name).map_err(unwritable)?;
            }
            Ok(_) => {}
            Err(error) => {
                let kept = Kept { repo, path: self.disk.path.join("trees"), reason: reason(&error) };
                if !self.report.kept.contains(&kept) {
                    self.report.kept.push(kept);
                }
            }
        }
        Ok(())
    }

    /// Removes the contents that no commit uses, except those in `removed`.
    fn blobs(&mut self, folder: &Folder, removed: &BTreeSet<String>) -> Result<(), HubError> {
        let Ok(Some(blobs)) = folder.open("blobs") else { return Ok(()) };
        let used = match used(&self.disk.snapshots, removed) {
            Some(used) => used,
            // Unknown: only unfinished downloads cannot be linked from a commit.
            None => self.disk.blobs.iter().filter(|blob| !blob.is_incomplete()).map(|blob| blob.name.clone()).collect(),
        };
        let is_candidate = |blob: &&Blob| {
            blob.hash().is_some() && !used.contains(&blob.name) && !self.foreign.contains(blob.name.as_str())
        };
        let candidates: Vec<&Blob> = self.disk.blobs.iter().filter(is_candidate).collect();
        for batch in candidates.chunks(BATCH) {
            // A process that downloads or links a blob holds its lock. One that did so since the snapshots were read has linked it by now.
            let guards: Vec<Option<Guard>> = batch.iter().map(|blob| self.store.try_lock(&blob.hash()?)).collect();
            let now = used_now(folder, removed);
            for (blob, _guard) in batch.iter().zip(guards).filter_map(|(blob, guard)| Some((blob, guard?))) {
                let is_free = blob.is_incomplete() || now.as_ref().is_some_and(|now| !now.contains(&blob.name));
                if is_free {
                    self.remove_blob(&blobs, blob)?;
                }
            }
        }
        Ok(())
    }

    fn remove_blob(&mut self, blobs: &Folder, blob: &Blob) -> Result<(), HubError> {
        let path = blobs.path().join(&blob.name);
        if !self.dry_run {
            let was_there =
                blobs.remove_file(&blob.name).map_err(|source| HubError::Unwritable { path: path.clone(), source })?;
            if !was_there {
                return Ok(());
            }
        }
        let reason = if blob.is_incomplete() { "its download was not finished" } else { "no commit uses it" };
        self.report.removed.push(Pruned { repo: self.disk.repo.to_string(), path, bytes: blob.bytes, reason });
        Ok(())
    }
}

/// Names of the blobs that snapshots link to, except those of the commits in `removed`; `None` if unknown.
fn used(snapshots: &Snapshots, removed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    if !snapshots.unknown.is_empty() {
        return None;
    }
    let kept = snapshots.commits.iter().filter(|(commit, _)| !removed.contains(*commit));
    let files = kept.flat_map(|(_, files)| files).chain(&snapshots.others);
    Some(files.filter_map(SnapshotFile::blob).collect())
}

fn used_now(folder: &Folder, removed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    used(&Snapshots::of(folder), removed)
}
