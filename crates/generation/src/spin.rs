//! Keeps rayon's threads spinning while one token is computed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::Yield;

/// Time without work after which a thread stops spinning. The serial parts of a pass over one token are far shorter. Because
/// spinning ends, a thread that spins inside another task delays that task by at most this much.
const IDLE_LIMIT: Duration = Duration::from_millis(1);
/// Maximum of spinning threads: more would mostly poll each other's empty queues.
const MAX_WAITING: usize = 15;

/// Runs `pass` on a thread of rayon's pool, while the pool's other threads poll for work instead of sleeping.
///
/// A pass over one token is some hundred short parallel products with serial parts of microseconds between them, and waking a
/// sleeping thread takes longer than many of those. A spinning thread yields to other processes.
pub(crate) fn with_spinning_pool<R: Send>(pass: impl FnOnce() -> R + Send) -> R {
    let waiting = (rayon::current_num_threads() - 1).min(MAX_WAITING);
    let over = AtomicBool::new(false);
    let over = &over;
    rayon::scope(|scope| {
        let caller = rayon::current_thread_index();
        for _ in 0..waiting {
            scope.spawn(move |_| {
                // The calling thread may pick up this task while it waits for a product; it must not spin.
                if rayon::current_thread_index() != caller {
                    spin(over);
                }
            });
        }
        let _over = SetOnDrop(over);
        pass()
    })
}

fn spin(over: &AtomicBool) {
    let mut last_work = Instant::now();
    while !over.load(Ordering::Relaxed) && last_work.elapsed() < IDLE_LIMIT {
        match rayon::yield_now() {
            Some(Yield::Executed) => last_work = Instant::now(),
            _ => std::thread::yield_now(),
        }
    }
}

/// Stops the spinning, also when the pass panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    fn sum_of_parts() -> usize {
        (0..40).map(|_| (0..10_000usize).into_par_iter().with_min_len(100).sum::<usize>()).sum()
    }

    #[test]
    fn passes_of_several_threads_all_end() {
        let results: Vec<usize> = std::thread::scope(|threads| {
            let passes: Vec<_> = (0..4)
                .map(|_| threads.spawn(|| (0..20).map(|_| with_spinning_pool(sum_of_parts)).sum::<usize>()))
                .collect();
            passes.into_iter().map(|pass| pass.join().expect("no panic")).collect()
        });
        assert_eq!(results, [20 * 40 * 49_995_000; 4]);
    }

    #[test]
    fn a_pass_inside_of_a_pass_ends() {
        assert_eq!(with_spinning_pool(|| with_spinning_pool(sum_of_parts)), 40 * 49_995_000);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_stops_the_spinning() {
        let result = std::panic::catch_unwind(|| with_spinning_pool(|| panic!("of the pass")));
        assert_eq!(result.expect_err("the panic").downcast_ref(), Some(&"of the pass"));
        assert_eq!(with_spinning_pool(|| 7), 7);
    }
}
