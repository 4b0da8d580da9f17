//! Faults of a server.

use std::time::Duration;

/// A fault and the requests that it affects.
#[derive(Clone, Debug)]
pub struct Fault {
    /// A part of the path and query.
    pub target: String,
    /// Number of requests that it affects.
    pub times: usize,
    /// The fault.
    pub kind: FaultKind,
}

impl Fault {
    /// A fault of the next `times` requests whose path has `target`.
    pub fn new(target: &str, times: usize, kind: FaultKind) -> Self {
        Self { target: target.to_owned(), times, kind }
    }

    /// A fault of all requests whose path has `target`.
    pub fn always(target: &str, kind: FaultKind) -> Self {
        Self::new(target, usize::MAX, kind)
    }
}

/// A kind of fault.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// The connection ends without a response.
    Drop,
    /// The body and the connection end after this number of bytes.
    Cut(usize),
    /// The body stops after this number of bytes, and the connection stays open for a while.
    Stall(usize, Duration),
    /// Another status with these headers, and no body.
    Status(u16, Vec<(String, String)>),
    /// The body and `content-length` have this number of extra bytes.
    Longer(usize),
    /// The body and `content-length` lack this number of bytes.
    Shorter(usize),
    /// The last byte of the body is wrong.
    WrongByte,
    /// A range that begins elsewhere.
    WrongRange,
    /// Ranges are ignored.
    NoRanges,
    /// Redirects to itself.
    RedirectLoop,
    /// Redirects to this address.
    Redirect(String),
    /// Another body with status 200.
    Body(Vec<u8>),
    /// Another body with status 200, whose next page is itself.
    EndlessPages(Vec<u8>),
    /// After the response a branch points to another commit.
    MoveBranch {
        /// The repo.
        repo: String,
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
}
