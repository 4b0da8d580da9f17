//! Comparisons: of numbers, of messages, over many items at once.

use std::error::Error;
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `check` for all `items`, on all cores, and panics with everything that failed.
pub fn check_all<T: Sync + Display>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(item)));
            if let Err(problem) = outcome.unwrap_or_else(|_| Err("panicked, see above".to_owned())) {
                failures.lock().unwrap().push(format!("{item}: {problem}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), items.len(), failures.join("\n"));
}

/// An error and its causes, as a command prints them.
pub fn message(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Asserts that `message` has every one of `parts`.
#[track_caller]
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// The largest difference in standard deviations of `expected`; NaN if a difference is. Panics if the lengths differ.
#[track_caller]
pub fn distance(expected: &[f32], found: &[f32]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().zip(found).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // `f64::max` would drop a NaN.
    let largest = largest.fold(0.0, |max: f64, next| if next.is_nan() || next > max { next } else { max });
    let mean = expected.iter().map(|value| f64::from(*value)).sum::<f64>() / expected.len() as f64;
    let variance = expected.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
    largest / (variance / (expected.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_in_standard_deviations() {
        // The standard deviation of 1, 2, 3 is 1.
        assert_eq!(distance(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
        assert_eq!(distance(&[1.0, 2.0, 3.0], &[1.0, 2.25, 2.5]), 0.5);
        assert!(distance(&[1.0, 2.0, 3.0], &[f32::NAN, 2.0, 3.0]).is_nan());
    }

    #[test]
    #[should_panic(expected = "2 of 3 failed:\n1: odd\n3: panicked, see above")]
    fn every_failure_is_reported() {
        check_all(&[1, 2, 3], |number| match number {
            1 => Err("odd".to_owned()),
            3 => panic!("an assertion"),
            _ => Ok(()),
        });
    }
}
