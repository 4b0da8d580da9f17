//! A thread with a stack that a template cannot overflow.

use crate::BoxedError;
use std::thread;

/// The parser and the interpreter limit their depth. At these limits a development build was measured to need less than half of
/// this. Only pages that are touched take memory.
const STACK_SIZE: usize = 64 << 20;

/// Runs `work` on a new thread and waits for it. All work is bounded, so it ends.
pub(super) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, BoxedError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_SIZE);
        let running = thread.spawn_scoped(scope, work).map_err(|error| Box::new(error) as BoxedError)?;
        running.join().map_err(|_| "the template engine panicked".into())
    })
}
