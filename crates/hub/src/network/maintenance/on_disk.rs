//! One repo of a cache as it is on disk, with the items that could not be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use super::{CachedRevision, ENTRIES, Kept, RepoReport};
use crate::{
    HubError, RepoId,
    cached_repo::commit_in_ref,
    network::{
        folder::{Entry, Folder},
        hash::ContentHash,
    },
    revision,
};

/// Maximum depth of folders. Longer paths cannot be opened on most systems.
const DEPTH: usize = 256;
/// Maximum of unreadable items of one repo that are reported; one is enough to keep whatever might depend on it.
const REPORTED: usize = 12;

/// One repo in a cache.
pub(super) struct OnDisk {
    pub(super) repo: RepoId,
    /// Its path.
    pub(super) path: PathBuf,
    /// Its directory, unless that is a link.
    pub(super) folder: Option<Folder>,
    pub(super) blobs: Vec<Blob>,
    /// Branches and tags by the commit that they point to.
    pub(super) refs: BTreeMap<String, Vec<String>>,
    pub(super) snapshots: Snapshots,
    /// Other items that could not be read.
    pub(super) unknown: Vec<Unknown>,
    /// Branches and tags that could not be read.
    pub(super) unknown_refs: Vec<Unknown>,
}

/// The directory `snapshots`.
#[derive(Default)]
pub(super) struct Snapshots {
    /// Files by commit.
    pub(super) commits: BTreeMap<String, Vec<SnapshotFile>>,
    /// Files in directories that are not named after a commit.
    pub(super) others: Vec<SnapshotFile>,
    pub(super) unknown: Vec<Unknown>,
}

/// An item that could not be read.
#[derive(Clone)]
pub(super) struct Unknown {
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

/// A file among the blobs.
pub(super) struct Blob {
    pub(super) name: String,
    /// Its own size: a link into the shared blob store has none.
    pub(super) bytes: u64,
}

/// A file of a snapshot.
pub(super) struct SnapshotFile {
    /// Name in the snapshot, `/` between its parts.
    pub(super) name: String,
    /// Its target, if it is a link.
    pub(super) link: Option<PathBuf>,
}

/// A file or a link that was found below a directory.
struct Found {
    name: String,
    link: Option<PathBuf>,
}

/// The result of a walk through a directory.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    unknown: Vec<Unknown>,
    entries: usize,
}

impl Walk {
    /// All files below `folder`. Links are found and not followed.
    fn through(folder: &Folder) -> Self {
        let mut walk = Self::default();
        walk.enter(folder, "", DEPTH);
        walk
    }

    fn enter(&mut self, folder: &Folder, prefix: &str, depth: usize) {
        let entries = match folder.entries(ENTRIES.saturating_sub(self.entries)) {
            Ok(entries) => entries,
            Err(error) => return self.unknown(folder.path(), format!("it cannot be read: {error}")),
        };
        self.entries += entries.len();
        for (name, entry) in entries {
            let path = folder.path().join(&name);
            let full = format!("{prefix}{name}");
            match entry {
                Entry::File { .. } => self.found.push(Found { name: full, link: None }),
                Entry::Link => match folder.read_link(&name) {
                    Ok(link) => self.found.push(Found { name: full, link: Some(link) }),
                    Err(error) => self.unknown(&path, format!("it cannot be read: {error}")),
                },
                Entry::Folder if depth == 0 => {
                    self.unknown(&path, format!("it is below more than {DEPTH} folders"));
                }
                Entry::Folder => match folder.open(&name) {
                    Ok(Some(child)) => self.enter(&child, &format!("{full}/"), depth - 1),
                    Ok(None) => self.unknown(&path, "it cannot be found under its name".to_owned()),
                    Err(error) => self.unknown(&path, reason(&error)),
                },
                Entry::Other => self.unknown(&path, "it is a pipe, a socket or a device".to_owned()),
            }
        }
    }

    fn unknown(&mut self, path: &Path, reason: String) {
        if self.unknown.len() < REPORTED {
            self.unknown.push(Unknown { path: path.to_owned(), reason });
        }
    }
}

/// An error with its cause.
pub(super) fn reason(error: &HubError) -> String {
    match (error, std::error::Error::source(error)) {
        (HubError::LinkInCache { target, .. }, _) => {
            format!("it is a link to {}, and links are not followed here", target.display())
        }
        (_, Some(cause)) => format!("it cannot be read: {cause}"),
        _ => error.to_string(),
    }
}

impl OnDisk {
    /// Reads a repo, and records items that cannot be read.
    pub(super) fn read(cache: &Folder, repo: &RepoId) -> Self {
        let name = repo.cache_name();
        let path = cache.path().join(&name);
        let mut on_disk = Self {
            repo: repo.clone(),
            path: path.clone(),
            folder: None,
            blobs: Vec::new(),
            refs: BTreeMap::new(),
            snapshots: Snapshots::default(),
            unknown: Vec::new(),
            unknown_refs: Vec::new(),
        };
        match cache.open(&name) {
            Ok(folder) => on_disk.folder = folder,
            Err(error) => on_disk.unknown.push(Unknown { path, reason: reason(&error) }),
        }
        let Some(folder) = on_disk.folder.take() else { return on_disk };
        on_disk.read_blobs(&folder);
        // Snapshots are read before refs: a snapshot that `huggingface_hub` adds meanwhile has its ref by then.
        on_disk.snapshots = Snapshots::of(&folder);
        on_disk.read_refs(&folder);
        on_disk.folder = Some(folder);
        on_disk
    }

    fn read_blobs(&mut self, folder: &Folder) {
        let path = folder.path().join("blobs");
        let unknown = match folder.open("blobs") {
            Ok(None) => return,
            Ok(Some(blobs)) => match blobs.entries(ENTRIES) {
                Ok(entries) => {
                    self.blobs = entries.into_iter().filter_map(Blob::of).collect();
                    return;
                }
                Err(error) => format!("it cannot be read: {error}"),
            },
            Err(error) => reason(&error),
        };
        self.unknown.push(Unknown { path, reason: unknown });
    }

    fn read_refs(&mut self, folder: &Folder) {
        let walk = match folder.open("refs") {
            Ok(None) => return,
            Ok(Some(refs)) => Walk::through(&refs),
            Err(error) => {
                self.unknown_refs.push(Unknown { path: folder.path().join("refs"), reason: reason(&error) });
                return;
            }
        };
        self.unknown_refs = walk.unknown;
        for Found { name, .. } in walk.found {
            let path = folder.path().join("refs").join(&name);
            match commit_in_ref(&path) {
                Ok(Some(commit)) => self.refs.entry(commit).or_default().push(name),
                _ if self.unknown_refs.len() >= REPORTED => {}
                Ok(None) => self.unknown_refs.push(Unknown { path, reason: "it cannot be read".to_owned() }),
                Err(HubError::MalformedRef { .. }) => {
                    self.unknown_refs.push(Unknown { path, reason: "it contains no commit".to_owned() });
                }
                Err(error) => self.unknown_refs.push(Unknown { path, reason: reason(&error) }),
            }
        }
    }

    /// All items that could not be read.
    pub(super) fn all_unknown(&self) -> impl Iterator<Item = &Unknown> {
        self.unknown.iter().chain(&self.unknown_refs).chain(&self.snapshots.unknown)
    }

    /// Names of blobs of other repos that snapshots of this one link to, or may link to.
    pub(super) fn foreign_blobs(&self) -> BTreeSet<String> {
        let files = self.snapshots.commits.values().flatten().chain(&self.snapshots.others);
        files.filter(|file| !file.is_of_own_repo()).filter_map(SnapshotFile::blob).collect()
    }

    /// Path of a file of a snapshot, for reading.
    pub(super) fn file(&self, commit: &str, file: &SnapshotFile) -> PathBuf {
        self.path.join("snapshots").join(commit).join(&file.name)
    }

    pub(super) fn report(&self) -> RepoReport {
        let bytes_of = |commit: &str, file: &SnapshotFile| {
            fs::metadata(self.file(commit, file)).map_or(0, |metadata| metadata.len())
        };
        let revisions = self.snapshots.commits.iter().map(|(commit, files)| CachedRevision {
            commit: commit.clone(),
            refs: self.refs.get(commit).cloned().unwrap_or_default(),
            files: files.len(),
            bytes: files.iter().map(|file| bytes_of(commit, file)).fold(0, u64::saturating_add),
        });
        let own = self.snapshots.commits.iter().map(|(commit, files)| self.own_bytes(commit, files));
        let incomplete = self.blobs.iter().filter(|blob| blob.is_incomplete());
        RepoReport {
            repo: self.repo.to_string(),
            bytes: self.blobs.iter().map(|blob| blob.bytes).chain(own).fold(0, u64::saturating_add),
            incomplete_bytes: incomplete.map(|blob| blob.bytes).fold(0, u64::saturating_add),
            revisions: revisions.collect(),
            unknown: self.all_unknown().map(|unknown| unknown.kept(&self.repo, "")).collect(),
        }
    }

    /// Bytes of the files of a snapshot that are not links, as on systems without links.
    pub(super) fn own_bytes(&self, commit: &str, files: &[SnapshotFile]) -> u64 {
        let own = files.iter().filter(|file| file.link.is_none());
        own.filter_map(|file| Some(fs::symlink_metadata(self.file(commit, file)).ok()?.len()))
            .fold(0, u64::saturating_add)
    }
}

impl Snapshots {
    /// Reads the directory `snapshots` of a repo.
    pub(super) fn of(folder: &Folder) -> Self {
        let mut result = Self::default();
        let walk = match folder.open("snapshots") {
            Ok(None) => return result,
            Ok(Some(snapshots)) => {
                // Also commits without files.
                for (name, entry) in snapshots.entries(ENTRIES).unwrap_or_default() {
                    if entry == Entry::Folder && revision::is_commit(&name) {
                        result.commits.entry(name).or_default();
                    }
                }
                Walk::through(&snapshots)
            }
            Err(error) => {
                result.unknown.push(Unknown { path: folder.path().join("snapshots"), reason: reason(&error) });
                return result;
            }
        };
        result.unknown = walk.unknown;
        let directory = folder.path().join("snapshots");
        for Found { name, link } in walk.found {
            if link.is_some() && directory.join(&name).is_dir() {
                let reason = "it is a link to a directory, and links are not followed here".to_owned();
                result.unknown.push(Unknown { path: directory.join(&name), reason });
                continue;
            }
            match name.split_once('/').and_then(|(commit, rest)| Some((result.commits.get_mut(commit)?, rest))) {
                Some((files, rest)) => files.push(SnapshotFile { name: rest.to_owned(), link }),
                None => result.others.push(SnapshotFile { name, link }),
            }
        }
        result
    }
}

impl SnapshotFile {
    /// Name of the blob that it links to, if it is a link.
    pub(super) fn blob(&self) -> Option<String> {
        Some(self.link.as_ref()?.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether it links to the blobs of its own repo (`../../blobs/NAME`), or is not a link.
    fn is_of_own_repo(&self) -> bool {
        let Some(link) = &self.link else { return true };
        let up = link.components().take_while(|part| *part == Component::ParentDir).count();
        let down: Vec<Component<'_>> = link.components().skip(up).collect();
        let is_blob = matches!(down.as_slice(), [Component::Normal(blobs), Component::Normal(_)] if *blobs == "blobs");
        is_blob && up == self.name.matches('/').count() + 2
    }
}

impl Unknown {
    /// Its entry in a report.
    pub(super) fn kept(&self, repo: &RepoId, consequence: &str) -> Kept {
        Kept { repo: repo.to_string(), path: self.path.clone(), reason: format!("{}{consequence}", self.reason) }
    }
}

impl Blob {
    fn of((name, entry): (String, Entry)) -> Option<Self> {
        match entry {
            Entry::File { bytes } => Some(Self { name, bytes }),
            Entry::Link => Some(Self { name, bytes: 0 }),
            Entry::Folder | Entry::Other => None,
        }
    }

    /// The hash in its name, finished or not; `None` for a name that no download uses.
    pub(super) fn hash(&self) -> Option<ContentHash> {
        let (hash, rest) = self.name.split_once('.').unwrap_or((&self.name, ""));
        ContentHash::from_name(hash).filter(|_| rest.is_empty() || self.is_incomplete())
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.name.ends_with(".incomplete")
    }
}
