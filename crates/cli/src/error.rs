//! What can go wrong in the command itself.

use automodel::{AutoModelError, hub::HubError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// What can go wrong in the command.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CliError {
    /// The library reported it.
    #[error(transparent)]
    AutoModel(Box<AutoModelError>),
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output {
        /// The system's answer.
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
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A prompt larger than any model takes.
    #[error("the prompt from {origin} has more than {limit} bytes, which no model takes: give a shorter one")]
    PromptTooLarge {
        /// The file, or `standard input`.
        origin: String,
        /// Largest accepted size, in bytes.
        limit: u64,
    },
    /// A prompt that is not text.
    #[error("the prompt from {origin} is not UTF-8 text (first bad byte at offset {offset}): save it as UTF-8")]
    PromptEncoding {
        /// The file, or `standard input`.
        origin: String,
        /// Offset of the first bad byte.
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
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A directory where a file of results should go.
    #[error("cannot write {}: it is a directory, give the name of a file", path.display())]
    OutputIsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that is not there.
    #[error("cannot write {}: the directory {} does not exist, create it first", path.display(), directory.display())]
    MissingOutputDirectory {
        /// The file.
        path: PathBuf,
        /// The directory it should go to.
        directory: PathBuf,
    },
    /// A device that fails the doctor's test.
    #[error("the device `{device}` cannot run models: the report says why")]
    UnfitDevice {
        /// Its name.
        device: String,
    },
    /// A directory where a repo belongs.
    #[error("{name} is a directory, so that there is nothing to download: give a repo id, ORG/NAME")]
    NotARepo {
        /// What was given.
        name: String,
    },
    /// The demo where a repo belongs.
    #[error("the demo is part of this program, so that there is nothing to download: give a repo id, ORG/NAME")]
    DemoIsNoRepo,
    /// A cache with files that are not what they should be.
    #[error(
        "{problems} file(s) of the cache are damaged{}",
        if *removed { " and were removed: the next load fetches them again" } else { ": remove them with --remove" }
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
    /// Whether the reader of standard output went away, as `head` does.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}
