//! Errors of a template.

/// Why a template did not compile, or did not render.
#[derive(Debug)]
pub(in crate::chat) struct Error {
    /// Line of the template, from 1; 0 if unknown.
    pub(in crate::chat) line: usize,
    pub(in crate::chat) cause: Cause,
}

#[derive(Debug)]
pub(in crate::chat) enum Cause {
    /// `raise_exception`.
    Raised(String),
    Steps,
    OutputBytes,
    Deadline,
    /// Python or Jinja would raise an exception here, or the template uses something that is not supported.
    Failed(Failure),
}

/// The message of a failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::chat) struct Failure(String);

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn at(line: usize, what: impl Into<String>) -> Self {
        Self { line, cause: Cause::Failed(Failure(what.into())) }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self { line: 0, cause }
    }
}

/// An error whose line the interpreter adds.
pub(super) fn failed<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::at(0, what))
}
