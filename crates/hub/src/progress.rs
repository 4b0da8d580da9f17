//! Progress events of a download.

use std::{fmt, sync::Arc, time::Duration};

/// Something that happened during a download. Events come from several threads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum DownloadEvent<'a> {
    /// Files were added to this load. Sent at most twice: for the small files, then for the weights.
    Planned {
        /// Files that are not in the cache.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// The download of a file begins or is resumed.
    Started {
        /// Its name in the repo.
        file: &'a str,
        /// Bytes that were downloaded before.
        bytes_done: u64,
        /// Its size.
        bytes_total: u64,
    },
    /// Bytes were received, by this process or by the one that it waits for.
    Advanced {
        /// The file.
        file: &'a str,
        /// Received bytes; fewer than before if the download restarts.
        bytes_done: u64,
    },
    /// Another process downloads the file, and this one waits for it.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// A file is complete and has its final name.
    Finished {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// A request failed and will be retried.
    Retrying {
        /// The action.
        what: &'a str,
        /// Why it failed.
        reason: &'a str,
        /// The pause before the retry.
        delay: Duration,
    },
    /// A warning for the user.
    Warning {
        /// The text.
        text: &'a str,
    },
}

/// Receiver of the events of a download.
pub trait DownloadProgress: Send + Sync {
    /// Handles one event. It is called from several threads and should return quickly.
    fn event(&self, event: DownloadEvent<'_>);
}

impl<F: Fn(DownloadEvent<'_>) + Send + Sync> DownloadProgress for F {
    fn event(&self, event: DownloadEvent<'_>) {
        self(event);
    }
}

/// A [`DownloadProgress`] that options can hold: cheap to clone, and equal only to its clones.
///
/// ```
/// use automodel_hub::{HubOptions, DownloadEvent, SharedProgress};
/// let progress = SharedProgress::new(|event: DownloadEvent<'_>| eprintln!("{event:?}"));
/// let options = HubOptions { progress: Some(progress), ..HubOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct SharedProgress(Arc<dyn DownloadProgress>);

impl SharedProgress {
    /// Shares `progress`.
    pub fn new(progress: impl DownloadProgress + 'static) -> Self {
        Self(Arc::new(progress))
    }

    /// Sends an event.
    pub fn event(&self, event: DownloadEvent<'_>) {
        self.0.event(event);
    }
}

impl fmt::Debug for SharedProgress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SharedProgress")
    }
}

impl PartialEq for SharedProgress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedProgress {}
