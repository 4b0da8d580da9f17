//! Untrusted input for the code that reads it: one function for each kind of input, with a bound on its memory.
//!
//! The same functions are run by `cargo xtask fuzz`, which mutates the inputs of `fuzz/corpus` on a stable compiler, and by
//! cargo-fuzz. See `fuzz/README.md`.

mod allocator;
mod check;
mod files;
mod inputs;
pub mod mutate;

pub use allocator::Counting;
pub use check::{Excess, Usage, check};
pub use files::Files;
pub use inputs::{TARGETS, Target, named, say_aloud};

/// The body of a target of cargo-fuzz: runs the named target and fails where its memory is not bounded.
#[macro_export]
macro_rules! libfuzzer_target {
    ($name:literal) => {
        #[global_allocator]
        static ALLOCATOR: $crate::Counting = $crate::Counting;

        libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            let target = $crate::named($name).expect("the target exists");
            if let Err(excess) = $crate::check(target, input) {
                panic!("{excess}");
            }
        });
    };
}
