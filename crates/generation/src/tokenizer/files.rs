//! The files of a tokenizer, read within limits of size.

use super::read::read_optional;
use super::settings::SettingFiles;
use crate::GenerationError;
use serde_json::{Map, Value};
use std::path::Path;

/// The largest `tokenizer.json` in use has some 35 MB.
const TOKENIZER_LIMIT: u64 = 256 << 20;
/// `tokenizer_config.json` can list hundreds of thousands of added tokens.
const CONFIG_LIMIT: u64 = 64 << 20;
/// The longest chat templates in use have some 30 KB.
const TEMPLATE_LIMIT: u64 = 1 << 20;

/// Files of vocabularies that transformers can convert.
const UNCONVERTED: [&str; 9] = [
    "tokenizer.model",
    "tekken.json",
    "tiktoken.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
];

/// The bytes of `tokenizer.json`.
pub(super) fn read_tokenizer(directory: &Path) -> Result<Vec<u8>, GenerationError> {
    read_optional(&directory.join("tokenizer.json"), TOKENIZER_LIMIT)?.ok_or_else(|| {
        let directory = directory.to_owned();
        match UNCONVERTED.into_iter().find(|name| directory.join(name).is_file()) {
            Some(found) => GenerationError::UnconvertedTokenizer { directory, found },
            None => GenerationError::MissingTokenizerFile { directory },
        }
    })
}

/// The setting files beside `tokenizer.json`.
pub(super) fn read_settings(directory: &Path) -> Result<SettingFiles, GenerationError> {
    let read = |name: &str| read_json(&directory.join(name));
    Ok(SettingFiles {
        config: read("tokenizer_config.json")?,
        special_tokens_map: read("special_tokens_map.json")?,
        added_tokens: read("added_tokens.json")?,
    })
}

/// `config.json`, whose model type influences how a tokenizer is loaded.
pub(super) fn read_model_config(directory: &Path) -> Result<Map<String, Value>, GenerationError> {
    read_json(&directory.join("config.json"))
}

/// A JSON object, empty if the file does not exist.
pub(super) fn read_json(path: &Path) -> Result<Map<String, Value>, GenerationError> {
    let Some(bytes) = read_optional(path, CONFIG_LIMIT)? else { return Ok(Map::new()) };
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    automodel_config::parse_json_object(&bytes, &name).map_err(|source| GenerationError::MalformedFile {
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
