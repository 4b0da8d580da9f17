//! A stack that a template cannot use up.
//!
//! The engine limits the nesting of blocks, but not the length of a chain such as `1+1+1..`, nor how deep a list is that a
//! loop builds; both are walked recursively, at the latest when they are freed. How long they get is bounded by the size of
//! the source and by the fuel, so a stack of fixed size is enough for any template within these.

use std::io;
use std::panic::resume_unwind;
use std::thread;

/// Longest source, in bytes. The longest in use have some 30 KB.
pub(super) const SOURCE_LIMIT: usize = 128 << 10;
/// Most fuel. Some ten units are spent on each level of a nested list.
pub(super) const FUEL_LIMIT: u64 = 4_000_000;
/// A development build was measured to need less than 64 MiB for the longest source, and less than 128 MiB to write a list
/// of 170,000 levels, which takes 2 million units of fuel. Only pages that are touched take memory.
const STACK_SIZE: usize = 256 << 20;

/// Runs `work` on a thread with a large stack; fails if there is no memory for one.
pub(super) fn with_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_SIZE);
        let handle = thread.spawn_scoped(scope, work)?;
        Ok(handle.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
