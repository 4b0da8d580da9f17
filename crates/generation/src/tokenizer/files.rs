//! Reading the files of a tokenizer, within limits of size.

use super::guard;
use crate::GenerationError;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use tokenizers::Tokenizer;

/// The largest `tokenizer.json` in use has some 35 MB.
const TOKENIZER_LIMIT: u64 = 256 << 20;
/// `tokenizer_config.json` can list hundreds of thousands of added tokens.
const CONFIG_LIMIT: u64 = 64 << 20;
/// The longest chat templates in use have some 30 KB.
const TEMPLATE_LIMIT: u64 = 1 << 20;

/// Vocabularies that transformers can convert, each with the file that shows it.
const UNCONVERTED: [&str; 6] =
    ["tokenizer.model", "tekken.json", "tiktoken.model", "spiece.model", "vocab.json", "vocab.txt"];

pub(super) fn read_tokenizer(directory: &Path) -> Result<Tokenizer, GenerationError> {
    let path = directory.join("tokenizer.json");
    let Some(bytes) = read_optional(&path, TOKENIZER_LIMIT)? else {
        let directory = directory.to_owned();
        let found = UNCONVERTED.into_iter().find(|name| directory.join(name).is_file());
        return Err(match found {
            Some(found) => GenerationError::UnconvertedTokenizer { directory, found },
            None => GenerationError::MissingTokenizerFile { directory },
        });
    };
    guard("be built", || Tokenizer::from_bytes(&bytes)).map_err(|error| GenerationError::MalformedFile {
        path,
        expected: "tokenizer.json",
        source: match error {
            GenerationError::Tokenizer { source, .. } => source,
            other => Box::new(other),
        },
    })
}

/// A JSON object, empty if there is no such file.
pub(super) fn read_json(path: &Path) -> Result<Map<String, Value>, GenerationError> {
    let Some(bytes) = read_optional(path, CONFIG_LIMIT)? else { return Ok(Map::new()) };
    serde_json::from_slice(&bytes).map_err(|source| GenerationError::MalformedFile {
        path: path.to_owned(),
        expected: "JSON object",
        source: Box::new(source),
    })
}

pub(super) fn read_template(path: &Path) -> Result<Option<String>, GenerationError> {
    let Some(bytes) = read_optional(path, TEMPLATE_LIMIT)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|source| GenerationError::MalformedFile {
        path: path.to_owned(),
        expected: "UTF-8 text",
        source: Box::new(source),
    })
}

fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, GenerationError> {
    let unreadable =
        |source: std::io::Error| GenerationError::UnreadableFile { path: path.to_owned(), source: Box::new(source) };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more; the length that the file system states may be wrong.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(GenerationError::FileTooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}
