//! The files of a tokenizer, and a text (the file `text`) that it takes apart and puts together.

use automodel::generation::{GenerationError, TextStream, TextTokenizer};
use std::path::Path;

use super::{MIB, Target, say};
use crate::Files;

/// Bytes of the text that are encoded.
const LONGEST: usize = 4096;

pub const TARGET: Target = Target {
    name: "tokenizer",
    run,
    // A step may make 64 KiB of nothing and 32 bytes of each of the text, and remembers where each came from.
    fixed_bytes: 32 * MIB,
    bytes_per_byte: 8192,
    words: &[
        "\"Replace\"",
        "\"ByteLevel\"",
        "\"Sequence\"",
        "\"Split\"",
        "\"Prepend\"",
        "\"NFKD\"",
        "\"Metaspace\"",
        "\"Unigram\"",
        "\"BPE\"",
        "\"WordPiece\"",
        "\"TemplateProcessing\"",
        "\"Regex\"",
        "(a+)+$",
        "(?=",
        "\\\\1",
        "[[:alpha:]]",
        "(.*)*",
        "{1000}",
        "<s>",
        "▁",
        "##",
        "\"add_prefix_space\"",
        "\"added_tokens\"",
        "\"special\"",
    ],
};

const TEXTS: [&str; 2] = ["Hello, world! 123  \n\tthe\u{301} ｆｕｌｌ 你好 <s>\u{0}", ""];

fn run(input: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else { return };
    let files = Files::split(input);
    if files.write(directory.path()).is_err() {
        return;
    }
    let given = files.text("text").map(|text| text.chars().take(LONGEST).collect::<String>());
    if let Err(error) = read(directory.path(), given.as_deref()) {
        say(&error);
    }
}

fn read(directory: &Path, given: Option<&str>) -> Result<(), GenerationError> {
    let tokenizer = TextTokenizer::from_dir(directory)?;
    let _ = (tokenizer.vocab_size(), tokenizer.special_tokens().iter().count());
    for text in given.into_iter().chain(TEXTS) {
        for add_special_tokens in [false, true] {
            match tokenizer.encode(text, add_special_tokens) {
                Ok(ids) => decode(&tokenizer, &ids)?,
                Err(error) => say(&error),
            }
        }
    }
    decode(&tokenizer, &[0, 1, 2, 3, 255, u32::MAX])
}

fn decode(tokenizer: &TextTokenizer, ids: &[u32]) -> Result<(), GenerationError> {
    // A few kilobytes of tokens are enough.
    let ids = &ids[..ids.len().min(LONGEST)];
    tokenizer.decode(ids, true)?;
    let mut stream = TextStream::new(tokenizer, false);
    for id in ids.iter().take(64) {
        stream.push(*id)?;
    }
    stream.finish()?;
    Ok(())
}
