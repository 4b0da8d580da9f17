//! A thread with a stack that a template cannot use up, and with a deadline.
//!
//! The engine limits the nesting of blocks, but not the length of a chain such as `1+1+1..`, nor how deep a list is that a
//! loop builds; both are walked recursively, at the latest when they are freed. How long they get is bounded by the size of
//! the source and by the fuel, so a stack of fixed size is enough for any template within these.

use crate::BoxedError;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Longest source, in bytes. The longest in use have some 30 KB.
pub(super) const SOURCE_LIMIT: usize = 128 << 10;
/// Most fuel. Some ten units are spent on each level of a nested list.
pub(super) const FUEL_LIMIT: u64 = 4_000_000;
/// A development build was measured to need less than 64 MiB for the longest source, and less than 128 MiB to write a list
/// of 170,000 levels, which takes 2 million units of fuel. Only pages that are touched take memory.
const STACK_SIZE: usize = 256 << 20;

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Interruption {
    /// It took longer than it may.
    Deadline,
    /// No thread could be started, or it panicked.
    Failure(BoxedError),
}

/// Runs `work` on a thread with a large stack and waits for it no longer than `deadline`.
///
/// The engine counts no fuel while it writes a list into a string, and a list of a hundred levels that share their parts
/// takes for ever to write. A thread cannot be stopped: one that misses its deadline is abandoned.
pub(super) fn run<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Interruption> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_SIZE);
    thread
        .spawn(move || {
            // Nobody listens after the deadline.
            let _ = sender.send(work());
        })
        .map_err(|error| Interruption::Failure(Box::new(error)))?;
    receiver.recv_timeout(deadline).map_err(|missed| match missed {
        RecvTimeoutError::Timeout => Interruption::Deadline,
        RecvTimeoutError::Disconnected => Interruption::Failure("the template engine panicked".into()),
    })
}
