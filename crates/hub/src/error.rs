//! Errors.

use std::{io, path::PathBuf};
use thiserror::Error;

use crate::suggestions::{listed, or_nothing};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error while a checkpoint is located or downloaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that is neither an existing directory nor a valid repo id.
    #[error(
        "{name:?} is neither an existing directory nor a valid repo id: {reason}; give a directory, or `ORG/NAME` as on \
         https://huggingface.co"
    )]
    InvalidRepoId {
        /// The given value.
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
        /// The given value.
        path: PathBuf,
        /// Directories with a similar name, nearest first.
        nearest: Vec<String>,
    },
    /// A file in place of a directory.
    #[error(
        "{} is {kind}, not a directory: give the directory that holds the checkpoint, {}",
        .path.display(), .directory.display()
    )]
    NotADirectory {
        /// The given value.
        path: PathBuf,
        /// Its kind: `a file`, `a named pipe`.
        kind: &'static str,
        /// Its directory.
        directory: PathBuf,
    },
    /// Weights in an unsupported format, given as a model or alone in a directory.
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
        "{} has no config.json, so it is not a checkpoint in Hugging Face layout; it contains {}",
        .directory.display(), or_nothing(.found)
    )]
    MissingConfig {
        /// The directory.
        directory: PathBuf,
        /// Names in it, sorted, at most twelve; directories end in `/`.
        found: Vec<String>,
    },
    /// A dangling link in place of a file or a directory.
    #[error(
        "{} is a link to {}, which does not exist: its target was removed or moved; correct the link, or download it again",
        .link.display(), .target.display()
    )]
    DanglingLink {
        /// The link.
        link: PathBuf,
        /// Its target, as written in the link.
        target: PathBuf,
    },
    /// A repo that is not in the cache.
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
    /// A revision of a cached repo that is not in the cache.
    #[error(
        "revision `{revision}` of `{repo}` is not in the local cache {}{}{}",
        .cache_dir.display(),
        without_network(*.offline),
        listed("; the cache has", .known)
    )]
    UncachedRevision {
        /// The repo id.
        repo: String,
        /// The requested revision.
        revision: String,
        /// The cache that was searched.
        cache_dir: PathBuf,
        /// Offline mode is on.
        offline: bool,
        /// Cached branches, tags and commits, at most twelve.
        known: Vec<String>,
    },
    /// A revision whose snapshot is missing in the cache.
    #[error(
        "revision `{revision}` of `{repo}` is commit {commit}, but the directory {} does not exist: the \
         download was cut short; repeat it with a network", .snapshot.display()
    )]
    MissingSnapshot {
        /// The repo id.
        repo: String,
        /// The requested revision.
        revision: String,
        /// Its commit.
        commit: String,
        /// The path of the missing snapshot.
        snapshot: PathBuf,
    },
    /// An ambiguous short commit.
    #[error("revision `{revision}` of `{repo}` is ambiguous ({}): give more digits of the commit", .commits.join(", "))]
    AmbiguousCommit {
        /// The repo id.
        repo: String,
        /// The requested revision.
        revision: String,
        /// The matching commits.
        commits: Vec<String>,
    },
    /// An invalid revision.
    #[error("{revision:?} is not a valid revision: {reason}; give a branch, a tag, `refs/pr/N` or a commit")]
    InvalidRevision {
        /// The requested revision.
        revision: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A file under `refs/` of the cache without a commit.
    #[error("{} does not contain a commit of 40 hexadecimal digits: delete it and download the repo again", .path.display())]
    MalformedRef {
        /// The file.
        path: PathBuf,
    },
    /// No cache directory could be derived from the environment.
    #[error("no Hugging Face cache directory is known: set HF_HUB_CACHE, HF_HOME or HOME")]
    UnknownCacheDir,
    /// A path from the environment that begins with the name of a user, `~ada`.
    #[error(
        "{} begins with the home directory of another user, which is not looked up: write the full path, for example in HF_HOME",
        .path.display()
    )]
    UnknownHome {
        /// The path.
        path: PathBuf,
    },
    /// A revision for a directory, which has none.
    #[error("revision `{revision}` was requested, but {} is a directory: leave the revision out", .directory.display())]
    RevisionOfDirectory {
        /// The requested revision.
        revision: String,
        /// The directory.
        directory: PathBuf,
    },
    /// A file or directory that could not be read.
    #[error("{} cannot be read: check that it exists and its permissions", .path.display())]
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
    /// A link in the cache in place of a directory that would be written to or removed from.
    #[error(
        "{} is a link to {}, and nothing in a cache is written or removed through a link: replace it by a directory; the \
         cache directory itself may be a link",
        .link.display(), .target.display()
    )]
    LinkInCache {
        /// The link.
        link: PathBuf,
        /// Its target, as written in the link.
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
    /// An invalid server address.
    #[error("{endpoint:?} is not a server address: {reason}; an example of HF_ENDPOINT is https://huggingface.co")]
    InvalidEndpoint {
        /// The given value.
        endpoint: String,
        /// The reason.
        reason: &'static str,
    },
    /// An invalid access token. It is not shown.
    #[error("the access token from {origin} is invalid: it is empty or has spaces or non-ASCII characters")]
    InvalidToken {
        /// Its source: an option, a variable or a file.
        origin: String,
    },
    /// A subfolder outside the repo.
    #[error(
        "{subfolder:?} is not a folder of a repo: give a relative path with `/` between its parts and without `..`"
    )]
    InvalidSubfolder {
        /// The given value.
        subfolder: String,
    },
    /// A server that cannot be reached, or whose connection keeps breaking.
    #[error(
        "{url} cannot be reached ({attempts} attempt(s)): check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT; what \
         was downloaded is kept, and a repeated run resumes it"
    )]
    Unreachable {
        /// The address.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// A server that keeps returning a transient error.
    #[error("{url} returned status {status} ({attempts} attempt(s)){}: try again later", waiting_time(.retry_after_seconds))]
    ServerBusy {
        /// The address.
        url: String,
        /// The last status.
        status: u16,
        /// Number of attempts.
        attempts: u32,
        /// Its `Retry-After`, if any.
        retry_after_seconds: Option<u64>,
    },
    /// An invalid response.
    #[error("the response of {url} is invalid: {reason}; check that HF_ENDPOINT is a Hugging Face Hub")]
    InvalidResponse {
        /// The address.
        url: String,
        /// The reason.
        reason: String,
    },
    /// A repo that does not exist on the server, or is not visible.
    #[error(
        "{endpoint} has no repo `{repo}`{}{}",
        if *.with_token { ", or the token has no access to it: check the name and the permissions of the token" }
        else { " that is public: check the name, or give a token (HF_TOKEN) if it is private" },
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
    /// A gated repo, whose terms must be accepted.
    #[error(
        "`{repo}` is a gated repo: accept its terms on {page}, then {}",
        if *.with_token { "try again; the account of the token has no access yet" }
        else { "give a token of that account (HF_TOKEN)" }
    )]
    Gated {
        /// The repo id.
        repo: String,
        /// The page with the terms.
        page: String,
        /// A token was sent.
        with_token: bool,
    },
    /// A token that the server rejects.
    #[error(
        "{url} rejected the access token: it is wrong, expired or revoked; create a new one on {endpoint}/settings/tokens"
    )]
    RefusedToken {
        /// The address.
        url: String,
        /// The server.
        endpoint: String,
    },
    /// Access that the server forbids.
    #[error(
        "{url} is forbidden: {}",
        if *.with_token { "give the token read permission for this repo, or use another token" }
        else { "give a token (HF_TOKEN) with read permission" }
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
        /// The requested revision.
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
    /// A repo without weights in safetensors format.
    #[error(
        "commit {commit} of `{repo}` has no weights in safetensors format{}: choose a repo or a revision that has them",
        listed(", only", .found)
    )]
    NoSafetensors {
        /// The repo id.
        repo: String,
        /// The commit.
        commit: String,
        /// Its weights in other formats.
        found: Vec<String>,
    },
    /// A file name that would leave its directory.
    #[error(
        "{origin} has a file called {name:?}, which is not a plain relative name: nothing was written; do not trust this repo"
    )]
    HostileName {
        /// The source of the name.
        origin: String,
        /// The name.
        name: String,
    },
    /// A file that was corrupt after two downloads.
    #[error(
        "{file} of `{repo}` was downloaded twice and was corrupt both times: {found} instead of {expected}; nothing of it is \
         kept; a proxy may change it on the way, or the server has a damaged copy"
    )]
    CorruptDownload {
        /// The repo id.
        repo: String,
        /// The file.
        file: String,
        /// The expected size or hash.
        expected: String,
        /// The actual one.
        found: String,
    },
    /// An invalid header of a safetensors file.
    #[error("{file} of `{repo}` does not begin with a valid safetensors header: {reason}")]
    InvalidHeader {
        /// The repo id.
        repo: String,
        /// The file.
        file: String,
        /// The reason.
        reason: String,
    },
    /// A malformed lock file.
    #[error("{} is not a lock file: {reason}", .path.display())]
    MalformedLockFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A repo that a lock file does not name.
    #[error("{} has no entry for {model}: it locks {}", .path.display(), or_nothing(.locked))]
    NotLocked {
        /// The lock file.
        path: PathBuf,
        /// The requested repo.
        model: String,
        /// Its entries.
        locked: Vec<String>,
    },
    /// A difference from the lock file.
    #[error("{what} of `{repo}` is {found}, but {} locks {expected}: nothing was loaded", .path.display())]
    LockMismatch {
        /// The lock file.
        path: PathBuf,
        /// The repo id.
        repo: String,
        /// The item that differs: the revision, or a file.
        what: Box<str>,
        /// The locked value.
        expected: Box<str>,
        /// The actual value.
        found: Box<str>,
    },
    /// The caller cancelled the download.
    #[error("the download was cancelled; the downloaded part is kept, and a repeated run resumes it")]
    Cancelled,
}

/// The advice without a network, after the words `is not in the cache`.
fn without_network(offline: bool) -> &'static str {
    if offline {
        ", and offline mode forbids downloads: unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or turn off `HubOptions::offline`"
    } else if cfg!(feature = "network") {
        ": download the repo first"
    } else {
        ", and this build cannot download: fill the cache with `hf download`"
    }
}

fn advice_to_write(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space or choose another cache directory; the downloaded part is kept, and a repeated run resumes it"
        }
        io::ErrorKind::InvalidInput => "remove whatever is in its place",
        _ => "check the permissions of the directory, or choose another cache directory",
    }
}

fn waiting_time(seconds: &Option<u64>) -> String {
    seconds.map(|seconds| format!(" and asks to wait {seconds} s")).unwrap_or_default()
}
