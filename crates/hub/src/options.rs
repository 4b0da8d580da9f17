//! How a model is looked for.

use std::path::PathBuf;

#[cfg(feature = "network")]
use crate::{ProgressEvent, RetryPolicy};
use crate::{SharedProgress, Token};

/// How a model is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// The cache directory; from the environment if `None`.
    pub cache_dir: Option<PathBuf>,
    /// Branch, tag, `refs/pr/N`, commit or unique beginning of a cached commit; `main` if `None`. Only a repo has revisions.
    pub revision: Option<String>,
    /// The folder of the repo or directory that holds the checkpoint; its root if `None`.
    pub subfolder: Option<String>,
    /// Only what is in the cache, as `HF_HUB_OFFLINE` asks for too.
    pub offline: bool,
    /// The access token; from the environment if `None`.
    pub token: Option<Token>,
    /// The server; from the environment, or else `https://huggingface.co`, if `None`.
    pub endpoint: Option<String>,
    /// Files that are downloaded at once.
    pub parallel: usize,
    /// Leave out the comparison of hashes. Sizes are always compared.
    pub skip_hashes: bool,
    /// The lock file that the repo must agree with. It says which commit is meant.
    pub locked: Option<PathBuf>,
    /// How processes that share a cache keep apart.
    pub locking: Locking,
    /// How broken connections and busy servers are met.
    #[cfg(feature = "network")]
    pub retries: RetryPolicy,
    /// Who is told how a download goes on.
    pub progress: Option<SharedProgress>,
}

/// How processes that share a cache keep apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Locking {
    /// Locks of the system, as `huggingface_hub` takes them; lease files where a probe finds that those do not hold.
    #[default]
    Probe,
    /// Lease files, for network file systems whose locks hold on one machine but not between machines, which no probe on one
    /// machine can find out.
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
            locked: None,
            locking: Locking::Probe,
            #[cfg(feature = "network")]
            retries: RetryPolicy::default(),
            progress: None,
        }
    }
}

impl HubOptions {
    /// Files that are downloaded at once unless another number is asked for.
    pub const PARALLEL: usize = 8;

    #[cfg(feature = "network")]
    pub(crate) fn reporter(&self) -> Reporter {
        Reporter(self.progress.clone())
    }
}

/// Passes events on, if anyone listens.
#[cfg(feature = "network")]
#[derive(Clone)]
pub(crate) struct Reporter(Option<SharedProgress>);

#[cfg(feature = "network")]
impl Reporter {
    pub(crate) fn event(&self, event: ProgressEvent<'_>) {
        if let Some(progress) = &self.0 {
            progress.event(event);
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        self.event(ProgressEvent::Warning { text });
    }
}
