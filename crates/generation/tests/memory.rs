//! The memory that a hostile tokenizer allocates. A separate process, because its allocator counts.

#[path = "../../../tests/tests/counting.rs"]
mod counting;
#[allow(dead_code, reason = "each binary of tests uses a part")]
#[path = "it/support.rs"]
mod support;

use counting::{HIGHEST, NOW};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of memory for each byte of text that a tokenizer may make: the text, where each byte came from, a token of each, and the
/// same once more while a step runs.
const BYTES_OF_MEMORY: usize = 256;

/// The documented allowance for a text of `bytes`.
fn allowed(bytes: usize) -> usize {
    32 * bytes + (64 << 10)
}

/// The most that is allocated while `run` runs.
fn peak<T>(run: impl FnOnce() -> T) -> usize {
    let before = NOW.load(Relaxed);
    HIGHEST.store(before, Relaxed);
    drop(run());
    HIGHEST.load(Relaxed).saturating_sub(before)
}

fn sequence(key: &str, step: &Value, times: usize) -> Value {
    let kind = "Sequence";
    json!({"type": kind, key: vec![step.clone(); times]})
}

#[test]
fn memory_is_bounded_by_the_text() {
    let replace =
        |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"String": pattern}, "content": content});
    let level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let metaspace =
        json!({"type": "Metaspace", "replacement": "\u{10ffff}", "prepend_scheme": "always", "split": true});
    let prepend = json!({"type": "Prepend", "prepend": "abcdefgh".repeat(64)});
    let split = json!({"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false});
    let mut files = Vec::new();
    for times in [1, 2, 3, 5, 8, 20, 60] {
        for step in [replace("1", "11"), replace("1", "1111111111"), prepend.clone(), json!({"type": "ByteLevel"})] {
            files.push(("normalizer", sequence("normalizers", &step, times)));
        }
        for step in [level.clone(), metaspace.clone(), split.clone()] {
            files.push(("pre_tokenizer", sequence("pretokenizers", &step, times)));
        }
        for step in [replace("1", "11"), replace("", "1"), json!({"type": "BPEDecoder", "suffix": ""})] {
            files.push(("decoder", sequence("decoders", &step, times)));
        }
    }
    let (mut refused, mut done) = (0, 0);
    for (key, steps) in files {
        let mut file = support::byte_level();
        file[key] = steps.clone();
        let tokenizer = support::tokenizer(&file);
        for bytes in [100usize, 4000] {
            let text = "1 é<s>".repeat(bytes / 7);
            let ids = vec![u32::from(b'1'); bytes];
            let mut outcome = None;
            let used = peak(|| match key {
                "decoder" => outcome = Some(tokenizer.decode(&ids, true).map(|text| text.len()).is_ok()),
                _ => outcome = Some(tokenizer.encode(&text, true).map(|ids| ids.len()).is_ok()),
            });
            assert!(used <= BYTES_OF_MEMORY * allowed(bytes), "{used} bytes for {bytes} of text: {key} {steps}");
            if outcome == Some(true) { done += 1 } else { refused += 1 }
        }
    }
    // Some of either kind, or nothing was tried.
    assert!(refused > 20 && done > 20, "{refused} refused, {done} done");
}
