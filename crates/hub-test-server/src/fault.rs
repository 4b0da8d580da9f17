//! What a server can do wrong.

use std::time::Duration;

/// A fault and which requests it strikes.
#[derive(Clone, Debug)]
pub struct Fault {
    /// A part of the path and query.
    pub target: String,
    /// It strikes only this many requests.
    pub times: usize,
    /// What goes wrong.
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

/// What goes wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// The connection ends without a response.
    Drop,
    /// The body ends after so many bytes, and the connection with it.
    Cut(usize),
    /// The body stops after so many bytes, and the connection stays open for a while.
    Stall(usize, Duration),
    /// Another status with these headers, and no body.
    Status(u16, Vec<(String, String)>),
    /// The body has so many bytes more than it should, and says so.
    Longer(usize),
    /// The body has so many bytes less than it should, and says so.
    Shorter(usize),
    /// The last byte of the body is another one.
    WrongByte,
    /// A range that begins elsewhere.
    WrongRange,
    /// Ranges are ignored.
    NoRanges,
    /// Redirects to itself.
    RedirectLoop,
    /// Redirects to there.
    Redirect(String),
    /// Another body with status 200.
    Body(Vec<u8>),
    /// Another body with status 200, which is followed by itself as the next page.
    EndlessPages(Vec<u8>),
    /// After the response a branch leads to another commit.
    MoveBranch {
        /// The repo.
        repo: String,
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
}
