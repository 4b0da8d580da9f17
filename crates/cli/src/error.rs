//! Errors of the command itself.

use automodel::{AutoModelError, hub::HubError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// An error of the command.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CliError {
    /// An error of the library.
    #[error(transparent)]
    AutoModel(Box<AutoModelError>),
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output {
        /// The cause, from the system.
        #[source]
        source: io::Error,
    },
    /// A result that could not be written as JSON.
    #[error("the result cannot be written as JSON")]
    Json {
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A prompt that could not be read.
    #[error("cannot read the prompt from {origin}")]
    UnreadablePrompt {
        /// The file, or `standard input`.
        origin: String,
        /// The cause, from the system.
        #[source]
        source: io::Error,
    },
    /// A prompt above the size limit.
    #[error("the prompt from {origin} exceeds the limit of {limit} bytes: give a shorter one")]
    PromptTooLarge {
        /// The file, or `standard input`.
        origin: String,
        /// Largest accepted size, in bytes.
        limit: u64,
    },
    /// A prompt that is not text.
    #[error("the prompt from {origin} is not UTF-8 text (first invalid byte at offset {offset}): save it as UTF-8")]
    PromptEncoding {
        /// The file, or `standard input`.
        origin: String,
        /// Offset of the first invalid byte.
        offset: usize,
    },
    /// A prompt in another encoding than UTF-8.
    #[error("the prompt from {origin} is text in {encoding}: save it as UTF-8")]
    PromptInOtherEncoding {
        /// The file, or `standard input`.
        origin: String,
        /// The encoding.
        encoding: &'static str,
    },
    /// A file of results that could not be written.
    #[error("cannot write {}", path.display())]
    OutputFile {
        /// The file.
        path: PathBuf,
        /// The cause, from the system.
        #[source]
        source: io::Error,
    },
    /// A directory in place of a result file.
    #[error("cannot write {}: it is a directory, give the name of a file", path.display())]
    OutputIsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A missing directory.
    #[error("cannot write {}: the directory {} does not exist, create it first", path.display(), directory.display())]
    MissingOutputDirectory {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// A device that fails the doctor's test.
    #[error("the device `{device}` cannot run models: see the report")]
    UnfitDevice {
        /// Its name.
        device: String,
    },
    /// A directory in place of a repo.
    #[error("{name} is a directory, so there is nothing to download: give a repo id, ORG/NAME")]
    NotARepo {
        /// The given name.
        name: String,
    },
    /// The demo in place of a repo.
    #[error("the demo is part of this program, so there is nothing to download: give a repo id, ORG/NAME")]
    DemoIsNoRepo,
    /// A cache with corrupt files.
    #[error(
        "{problems} file(s) of the cache are corrupt{}",
        if *removed { " and were removed: the next load downloads them again" } else { ": remove them with --remove" }
    )]
    DamagedCache {
        /// Their number.
        problems: usize,
        /// They were removed.
        removed: bool,
    },
    /// Logits that could not be read back.
    #[error("the logits could not be read from the device: it may be out of memory")]
    UnreadableLogits {
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<AutoModelError> for CliError {
    fn from(error: AutoModelError) -> Self {
        Self::AutoModel(Box::new(error))
    }
}

impl From<HubError> for CliError {
    fn from(error: HubError) -> Self {
        AutoModelError::Hub(error).into()
    }
}

impl CliError {
    /// Whether the reader of standard output closed the pipe, as `head` does.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}
