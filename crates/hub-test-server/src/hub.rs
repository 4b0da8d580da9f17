//! The served repos.

use std::{collections::BTreeMap, sync::Arc};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::{Fault, FaultKind};

/// Default minimum size of large files.
const LARGE: usize = 4096;

/// Repos and faults.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// The repos by id.
    pub repos: BTreeMap<String, Repo>,
    /// Faults. The first that matches a request applies.
    pub faults: Vec<Fault>,
    /// The one token that private repos accept.
    pub token: Option<String>,
    /// Body bytes per second of each connection.
    pub bytes_per_second: Option<u64>,
    /// Entries of one page of a list of files; 1000 if 0.
    pub page: usize,
}

impl Hub {
    /// A hub with one repo.
    pub fn with(name: &str, repo: Repo) -> Self {
        Self { repos: BTreeMap::from([(name.to_owned(), repo)]), ..Self::default() }
    }

    /// The fault of a request, if any.
    pub(crate) fn strike(&mut self, target: &str) -> Option<FaultKind> {
        let fault = self.faults.iter_mut().find(|fault| fault.times > 0 && target.contains(&fault.target))?;
        fault.times = fault.times.saturating_sub(usize::from(fault.times != usize::MAX));
        Some(fault.kind.clone())
    }

    /// The contents of a large file.
    pub(crate) fn large(&self, sha256: &str) -> Option<Arc<Vec<u8>>> {
        let commits = self.repos.values().flat_map(|repo| repo.commits.values());
        let mut files = commits.flat_map(BTreeMap::values);
        files.find(|file| file.is_large && file.sha256() == sha256).map(|file| Arc::clone(&file.contents))
    }
}

/// One repo.
#[derive(Clone, Debug, Default)]
pub struct Repo {
    /// Branches and tags, with their commits.
    pub branches: BTreeMap<String, String>,
    /// The files of each commit.
    pub commits: BTreeMap<String, BTreeMap<String, File>>,
    /// It is visible only with the token of the hub.
    pub is_private: bool,
    /// It is gated, and access was not granted.
    pub is_gated: bool,
}

impl Repo {
    /// Adds a commit with these files to a branch, and returns its id.
    pub fn commit<N: Into<String>>(&mut self, branch: &str, files: impl IntoIterator<Item = (N, Vec<u8>)>) -> String {
        let files: BTreeMap<String, File> =
            files.into_iter().map(|(name, contents)| (name.into(), File::new(contents))).collect();
        let mut hasher = Sha1::new();
        hasher.update([u8::try_from(self.commits.len() % 256).unwrap_or_default()]);
        for (name, file) in &files {
            hasher.update(name);
            hasher.update(file.sha256());
        }
        let commit = hexadecimal(&hasher.finalize());
        self.commits.insert(commit.clone(), files);
        self.branches.insert(branch.to_owned(), commit.clone());
        commit
    }

    /// The commit of a branch, a tag or a commit.
    pub(crate) fn resolve(&self, revision: &str) -> Option<String> {
        let commit = self.branches.get(revision).cloned();
        commit.or_else(|| self.commits.contains_key(revision).then(|| revision.to_owned()))
    }
}

/// One file.
#[derive(Clone, Debug)]
pub struct File {
    /// Its contents.
    pub contents: Arc<Vec<u8>>,
    /// It is kept in large file storage.
    pub is_large: bool,
    sha256: String,
    git: String,
}

impl File {
    /// A file, large from 4096 bytes on.
    pub fn new(contents: Vec<u8>) -> Self {
        let sha256 = hexadecimal(&Sha256::digest(&contents));
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {}\0", contents.len()));
        hasher.update(&contents);
        let git = hexadecimal(&hasher.finalize());
        Self { is_large: contents.len() >= LARGE, contents: Arc::new(contents), sha256, git }
    }

    /// SHA-256 of the contents.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The git object id of the contents.
    pub fn git(&self) -> &str {
        &self.git
    }

    /// The etag, which is also the blob name in a cache.
    pub fn etag(&self) -> &str {
        if self.is_large { &self.sha256 } else { &self.git }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
