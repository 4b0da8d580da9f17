//! A bounded number of threads for a list of jobs.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Maximum of threads.
const MAX_THREADS: usize = 64;

/// Runs all jobs, at most `parallel` at once. After the first error `stop` is called and no further job begins; that error is returned.
pub(crate) fn for_each<T: Sync, E: Send>(
    jobs: &[T],
    parallel: usize,
    stop: impl Fn() + Sync,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let errors = std::sync::Mutex::new(Vec::new());
    let worker = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(job) {
                next.store(jobs.len(), Ordering::Relaxed);
                errors.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(error);
                stop();
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, MAX_THREADS).min(jobs.len()) {
            scope.spawn(worker);
        }
    });
    let errors = errors.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    errors.into_iter().next().map_or(Ok(()), Err)
}
