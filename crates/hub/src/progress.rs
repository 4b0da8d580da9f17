//! What a download says of itself while it goes on. How that is shown is the caller's business.

use std::{fmt, sync::Arc, time::Duration};

/// Something that happened during a download. Events come from several threads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ProgressEvent<'a> {
    /// More files belong to this load. Comes at most twice: for the small files, then for the weights that they name.
    Planned {
        /// Files that are not in the cache.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A file begins, or goes on after an earlier run.
    Started {
        /// Its name in the repo.
        file: &'a str,
        /// Bytes that are there already.
        bytes_done: u64,
        /// Its size.
        bytes_total: u64,
    },
    /// Bytes arrived, here or in the process that is waited for.
    Advanced {
        /// The file.
        file: &'a str,
        /// Bytes that are there; fewer than before when the file begins anew.
        bytes_done: u64,
    },
    /// Another process downloads the file, and this one waits for it.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// A file is whole and has its final name.
    Finished {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// A request failed and is repeated after a while.
    Retrying {
        /// What is being done.
        what: &'a str,
        /// Why it failed.
        reason: &'a str,
        /// The pause.
        delay: Duration,
    },
    /// Something that the user should know.
    Warning {
        /// The text.
        text: &'a str,
    },
}

/// Where the events of a download go.
pub trait Progress: Send + Sync {
    /// Takes one event. It is called from several threads and should return soon.
    fn event(&self, event: ProgressEvent<'_>);
}

impl<F: Fn(ProgressEvent<'_>) + Send + Sync> Progress for F {
    fn event(&self, event: ProgressEvent<'_>) {
        self(event);
    }
}

/// A [`Progress`] that options can hold: cheap to clone, and equal only to its clones.
///
/// ```
/// use automodel_hub::{HubOptions, ProgressEvent, SharedProgress};
/// let progress = SharedProgress::new(|event: ProgressEvent<'_>| eprintln!("{event:?}"));
/// let options = HubOptions { progress: Some(progress), ..HubOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct SharedProgress(Arc<dyn Progress>);

impl SharedProgress {
    /// Shares `progress`.
    pub fn new(progress: impl Progress + 'static) -> Self {
        Self(Arc::new(progress))
    }

    /// Passes an event on.
    pub fn event(&self, event: ProgressEvent<'_>) {
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
