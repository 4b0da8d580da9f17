//! What can go wrong while a checkpoint is located or downloaded.

use std::{io, path::PathBuf};
use thiserror::Error;

use crate::hints::{listed, or_nothing};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong while a checkpoint is located or downloaded.
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
    #[error(
        "{} is {kind}, not a directory: give the directory that holds the checkpoint, {}",
        .path.display(), .directory.display()
    )]
    FileGiven {
        /// What was given.
        path: PathBuf,
        /// What it is: `a file`, `a named pipe`.
        kind: &'static str,
        /// The directory that it is in.
        directory: PathBuf,
    },
    /// Weights in a format that is not read, given as a model or alone in a directory.
    #[error(
        "{} is in {format} format, which is not supported: give a directory or a repo with a config.json and weights in \
         safetensors format",
        .path.display()
    )]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The format, by name.
        format: &'static str,
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
    /// A link that leads nowhere, in the place of a file or a directory.
    #[error(
        "{} is a link to {}, which does not exist: what it led to was removed or moved; mend the link, or download it again",
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
        "the repo `{repo}` is not in the local cache {}{}; or give a directory{}",
        .cache_dir.display(),
        without_network(*.offline),
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
        "revision `{revision}` of `{repo}` is not in the local cache {}{}{}",
        .cache_dir.display(),
        without_network(*.offline),
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
        "revision `{revision}` of `{repo}` is commit {commit}, but the directory {} does not exist: the \
         download was cut short; repeat it with a network", .snapshot.display()
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
    /// A path from the environment that begins with the name of a user, `~ada`.
    #[error(
        "{} begins with the home directory of another user, which is not looked up: write it in full, in HF_HOME or the like",
        .path.display()
    )]
    UnknownHome {
        /// The path.
        path: PathBuf,
    },
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
    /// A file or directory of the cache that could not be written.
    #[error("{} cannot be written: {}", .path.display(), advice_to_write(.source))]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A link in the cache where it would have to be written to, or something removed.
    #[error(
        "{} is a link to {}, and nothing in a cache is written or removed through a link: put a directory in its place; the \
         cache directory itself may be a link",
        .link.display(), .target.display()
    )]
    LinkInCache {
        /// The link.
        link: PathBuf,
        /// What it points to, as it is written in the link.
        target: PathBuf,
    },
    /// A cached snapshot that lacks files, with no network to fetch them.
    #[error(
        "commit {commit} of `{repo}` is in the cache without {}{}", .missing.join(", "), without_network(*.offline)
    )]
    IncompleteSnapshot {
        /// The repo id.
        repo: String,
        /// The commit.
        commit: String,
        /// Names of files that are missing or have another size than they should, at most twelve.
        missing: Vec<String>,
        /// Offline mode is on.
        offline: bool,
    },
    /// An address that no server can have.
    #[error("{endpoint:?} is no address of a server: {reason}; HF_ENDPOINT is written as https://huggingface.co")]
    InvalidEndpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Text that no access token can be. It is not shown.
    #[error("the access token from {origin} is none: it is empty or has spaces or characters other than ASCII")]
    InvalidToken {
        /// Where it comes from: an option, a variable or a file.
        origin: String,
    },
    /// A subfolder that leaves the repo.
    #[error("{subfolder:?} is no folder of a repo: give a relative path with `/` between its parts and without `..`")]
    InvalidSubfolder {
        /// What was given.
        subfolder: String,
    },
    /// A server that cannot be reached, or whose connection breaks again and again.
    #[error(
        "{url} cannot be reached ({attempts} attempt(s)): check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT; what \
         was downloaded is kept, and repeating goes on from there"
    )]
    Unreachable {
        /// The address.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// A server that keeps answering that it cannot.
    #[error("{url} answers status {status} ({attempts} attempt(s)){}: try again later", waiting_time(.retry_after_seconds))]
    ServerBusy {
        /// The address.
        url: String,
        /// The last status.
        status: u16,
        /// How often it was tried.
        attempts: u32,
        /// How long it asks to be left alone, if it says so.
        retry_after_seconds: Option<u64>,
    },
    /// An answer that makes no sense.
    #[error("{url} gives an answer that cannot be used: {reason}; check that HF_ENDPOINT leads to a Hugging Face Hub")]
    UnusableAnswer {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A repo that the server does not have, or does not show.
    #[error(
        "{endpoint} has no repo `{repo}`{}{}",
        if *.with_token { ", or the token may not see it: check the name and the rights of the token" }
        else { " that everyone may see: check the name, or give a token (HF_TOKEN) if it is private" },
        listed("; similar names there:", .nearest)
    )]
    UnknownRepo {
        /// The repo id.
        repo: String,
        /// The server.
        endpoint: String,
        /// A token was sent.
        with_token: bool,
        /// Repos on the server with a similar name, nearest first.
        nearest: Vec<String>,
    },
    /// A repo whose terms have to be accepted.
    #[error(
        "access to `{repo}` has to be asked for: accept its terms on {page}, then {}",
        if *.with_token { "try again; the token that was given belongs to an account that has no access yet" }
        else { "give a token of that account (HF_TOKEN)" }
    )]
    Gated {
        /// The repo id.
        repo: String,
        /// Where to accept.
        page: String,
        /// A token was sent.
        with_token: bool,
    },
    /// A token that the server does not take.
    #[error(
        "{url} refuses the access token: it is wrong, expired or revoked; make a new one on {endpoint}/settings/tokens"
    )]
    RefusedToken {
        /// The address.
        url: String,
        /// The server.
        endpoint: String,
    },
    /// Something that the server forbids.
    #[error(
        "{url} is forbidden: {}",
        if *.with_token { "give the token the right to read this repo, or use another token" }
        else { "give a token (HF_TOKEN) that may read it" }
    )]
    Forbidden {
        /// The address.
        url: String,
        /// A token was sent.
        with_token: bool,
    },
    /// A revision that the server does not have.
    #[error("`{repo}` has no branch, tag or commit `{revision}`{}", listed("; it has", .known))]
    UnknownRevision {
        /// The repo id.
        repo: String,
        /// The revision asked for.
        revision: String,
        /// Branches and tags that it has: similar names first, at most twelve.
        known: Vec<String>,
    },
    /// A file that the repo does not have.
    #[error("commit {commit} of `{repo}` has no {file}{}", listed("; similar names there:", .nearest))]
    MissingRemoteFile {
        /// The repo id.
        repo: String,
        /// The commit.
        commit: String,
        /// The file.
        file: String,
        /// Files with a similar name, nearest first.
        nearest: Vec<String>,
    },
    /// A repo without weights that can be read.
    #[error(
        "commit {commit} of `{repo}` has no weights in safetensors format{}: take a repo or a revision that has them",
        listed(", only", .found)
    )]
    NoSafetensors {
        /// The repo id.
        repo: String,
        /// The commit.
        commit: String,
        /// Weights in other formats that it has.
        found: Vec<String>,
    },
    /// A name that would leave the directory it is joined to.
    #[error(
        "{origin} has a file called {name:?}, which is no plain relative name: nothing was written; do not trust this repo"
    )]
    HostileName {
        /// Where the name comes from.
        origin: String,
        /// The name.
        name: String,
    },
    /// A file that arrived damaged twice.
    #[error(
        "{file} of `{repo}` was downloaded twice and is damaged both times: {found} instead of {expected}; nothing of it is \
         kept; a proxy may change it on the way, or the server has a damaged copy"
    )]
    CorruptDownload {
        /// The repo id.
        repo: String,
        /// The file.
        file: String,
        /// Size or hash that it should have.
        expected: String,
        /// What it has.
        found: String,
    },
    /// A header of a safetensors file that cannot be one.
    #[error("{file} of `{repo}` begins with no safetensors header: {reason}")]
    UnusableHeader {
        /// The repo id.
        repo: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A lock file that is none.
    #[error("{} is no lock file: {reason}; write a new one with `pull --lock`", .path.display())]
    MalformedLockFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A repo that a lock file does not name.
    #[error("{} has no entry for {model}: it locks {}; add it with `pull --lock`", .path.display(), or_nothing(.locked))]
    NotLocked {
        /// The lock file.
        path: PathBuf,
        /// What was asked for.
        model: String,
        /// What it has entries for.
        locked: Vec<String>,
    },
    /// Something that differs from what was locked.
    #[error("{what} of `{repo}` is {found}, but {} locks {expected}: nothing was loaded", .path.display())]
    LockMismatch {
        /// The lock file.
        path: PathBuf,
        /// The repo id.
        repo: String,
        /// What differs: the revision, or a file.
        what: Box<str>,
        /// What is locked.
        expected: Box<str>,
        /// What was found.
        found: Box<str>,
    },
    /// The caller stopped the download.
    #[error("the download was stopped; what is there is kept, and repeating goes on from there")]
    Stopped,
}

/// What to do where there is no network, after the words `is not in the cache`.
fn without_network(offline: bool) -> &'static str {
    if offline {
        ", and offline mode forbids downloads: unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE or leave out --offline, fill the cache with `automodel pull` \
         where there is a network"
    } else if cfg!(feature = "network") {
        ": fill the cache with `automodel pull`"
    } else {
        ", and this build cannot download: fill the cache with `hf download`"
    }
}

fn advice_to_write(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space or choose another cache directory; what is there is kept, and repeating goes on from there"
        }
        io::ErrorKind::InvalidInput => "remove what is in its place",
        _ => "check that the directory may be written, or choose another cache directory",
    }
}

fn waiting_time(seconds: &Option<u64>) -> String {
    seconds.map(|seconds| format!(" and asks to wait {seconds} s")).unwrap_or_default()
}
