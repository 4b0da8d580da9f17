//! Code that does what it is told: proof that faults are found. Tests of the fuzzer use it.

use super::Target;

pub const TARGET: Target = Target { name: "faulty", run, fixed_bytes: 1 << 20, bytes_per_byte: 1, words: &[] };

fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match text.split_once(' ').unwrap_or((&text, "")) {
        ("panic", _) => panic!("as it was told"),
        ("abort", _) => std::process::abort(),
        ("recurse", _) => drop(recurse(u64::MAX)),
        ("allocate", bytes) => drop(std::hint::black_box(vec![1u8; bytes.parse().unwrap_or(0)])),
        _ => {}
    }
}

/// Calls itself until the stack ends.
fn recurse(depth: u64) -> u64 {
    let here = std::hint::black_box(depth);
    if here == 0 { 0 } else { recurse(here - 1).wrapping_add(here) }
}
