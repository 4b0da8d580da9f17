//! The kinds of input.

mod config;
mod faulty;
mod hub;
mod plan;
mod quant_state;
mod template;
mod tokenizer;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A kind of input, and the code that reads it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name; also that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Lets the code read an input.
    pub run: fn(&[u8]),
    /// Memory that any input may take: tables, threads, and the code's own limits.
    pub fixed_bytes: usize,
    /// Memory that each byte of an input may take.
    pub bytes_per_byte: usize,
    /// Words of the format, from which mutations are made.
    pub words: &'static [&'static str],
}

impl Target {
    /// Bytes that an input of `length` bytes may need.
    pub fn allowed(&self, length: usize) -> usize {
        self.fixed_bytes.saturating_add(self.bytes_per_byte.saturating_mul(length))
    }
}

/// All targets.
pub const TARGETS: [Target; 6] =
    [config::TARGET, plan::TARGET, quant_state::TARGET, tokenizer::TARGET, template::TARGET, hub::TARGET];

/// The target of this name; `faulty` fails on request, for tests.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain([&faulty::TARGET]).find(|target| target.name == name)
}

const MIB: usize = 1 << 20;

/// Whether messages are printed too.
static ALOUD: AtomicBool = AtomicBool::new(false);

/// From now on errors that targets meet are printed: for one input that is looked at again.
pub fn say_aloud() {
    ALOUD.store(true, Relaxed);
}

/// Formats an error and its causes, as whoever reports it does.
fn say(error: &dyn std::error::Error) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = format!("{error} {error:?}");
        if ALOUD.load(Relaxed) {
            eprintln!("    {}", text.escape_debug());
        }
        cause = error.source();
    }
}
