//! Turn a Hugging Face repo id or a path into a pinned local directory of checkpoint files.
//!
//! [`resolve()`] takes what a user types (a directory, `ORG/NAME`, or `NAME`) and returns a [`Checkpoint`]: a directory that
//! is known to hold a `config.json`, and for a repo the commit it was pinned to. Repos live in the local Hugging Face cache, in
//! the layout of `hf download` and `transformers`; missing files are downloaded, resumed after an interruption, and
//! verified. [`resolve_headers`] reads configuration and headers of a repo without its weights. Without the feature `network` only the
//! cache is searched.
//!
//! ```
//! use automodel_hub::{HubOptions, resolve};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! std::fs::write(directory.path().join("config.json"), "{}")?;
//!
//! let model = directory.path().to_str().ok_or("not UTF-8")?;
//! let checkpoint = resolve(model, &HubOptions::default())?;
//! assert_eq!(checkpoint.config_file(), directory.path().join("config.json"));
//! assert_eq!(checkpoint.commit, None);
//! assert_eq!(checkpoint.file("../secret.json"), None);
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod auto_traits;
mod auxiliary;
mod cached_repo;
mod checkpoint;
mod environment;
mod error;
mod expand;
mod file_name;
mod files;
#[cfg(feature = "network")]
mod network;
mod options;
mod progress;
mod resolve;
mod revision;
mod source;
mod suggestions;
mod token;

pub use checkpoint::{Checkpoint, CheckpointFile};
pub use environment::Environment;
pub use error::HubError;
#[cfg(feature = "network")]
pub use network::{
    lock_file::{LockFile, LockedFile, LockedModel},
    maintenance::{
        CacheProblem, CacheReport, CachedRevision, Kept, PruneReport, Pruned, RepoReport, list_cache, prune_cache,
        verify_cache,
    },
    retry::RetryPolicy,
};
pub use options::{HubOptions, Locking};
pub use progress::{DownloadEvent, DownloadProgress, SharedProgress};
#[cfg(feature = "network")]
pub use resolve::{lock, lock_with};
pub use resolve::{resolve, resolve_headers, resolve_headers_with, resolve_with};
pub use source::{ModelSource, RepoId};
pub use token::Token;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
