//! Options of resolving a model.

use std::path::PathBuf;

#[cfg(feature = "network")]
use crate::{DownloadEvent, RetryPolicy};
use crate::{SharedProgress, Token};

/// Options of resolving a model: cache, revision, server, downloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// The cache directory; from the environment if `None`.
    pub cache_dir: Option<PathBuf>,
    /// Branch, tag, `refs/pr/N`, commit or unique beginning of a cached commit; `main` if `None`. Only a repo has revisions.
    pub revision: Option<String>,
    /// The folder of the repo or directory that holds the checkpoint; its root if `None`.
    pub subfolder: Option<String>,
    /// Use only the cache, as with `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// The access token; from the environment if `None`.
    pub token: Option<Token>,
    /// The server; from the environment, or else `https://huggingface.co`, if `None`.
    pub endpoint: Option<String>,
    /// Number of parallel downloads.
    pub parallel: usize,
    /// Skip the verification of hashes. Sizes are always verified.
    pub skip_hashes: bool,
    /// The lock file that the repo must match. It determines the commit.
    pub lock_file: Option<PathBuf>,
    /// How processes that share a cache lock files.
    pub locking: Locking,
    /// Retries on broken connections and busy servers.
    #[cfg(feature = "network")]
    pub retries: RetryPolicy,
    /// Receiver of progress events.
    pub progress: Option<SharedProgress>,
}

/// How processes that share a cache lock files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Locking {
    /// File locks of the system, as `huggingface_hub` uses them; lease files where a probe finds that locks do not work.
    #[default]
    Probe,
    /// Lease files, for network file systems whose locks work on one machine but not between machines, which a probe on one machine
    /// cannot detect.
    Leases,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            revision: None,
            subfolder: None,
            offline: false,
            token: None,
            endpoint: None,
            parallel: Self::PARALLEL,
            skip_hashes: false,
            lock_file: None,
            locking: Locking::Probe,
            #[cfg(feature = "network")]
            retries: RetryPolicy::default(),
            progress: None,
        }
    }
}

impl HubOptions {
    /// Default number of parallel downloads.
    pub const PARALLEL: usize = 8;

    #[cfg(feature = "network")]
    pub(crate) fn reporter(&self) -> Reporter {
        Reporter(self.progress.clone())
    }
}

/// Sends events to the receiver, if any.
#[cfg(feature = "network")]
#[derive(Clone)]
pub(crate) struct Reporter(Option<SharedProgress>);

#[cfg(feature = "network")]
impl Reporter {
    pub(crate) fn event(&self, event: DownloadEvent<'_>) {
        if let Some(progress) = &self.0 {
            progress.event(event);
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        self.event(DownloadEvent::Warning { text });
    }
}
