//! The chat templates of a checkpoint.

use super::files::{read_json, read_template};
use crate::GenerationError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Maximum of named templates.
const TEMPLATES_LIMIT: usize = 64;

/// Template sources by name. Template files override `tokenizer_config.json`, as in transformers; the
/// `chat_template.json` of processors comes last.
pub(super) fn read(directory: &Path, config: &Map<String, Value>) -> Result<BTreeMap<String, String>, GenerationError> {
    let files = from_files(directory)?;
    if !files.is_empty() {
        return Ok(files);
    }
    let configured = from_value(config.get("chat_template"));
    if !configured.is_empty() {
        return Ok(configured);
    }
    Ok(from_value(read_json(&directory.join("chat_template.json"))?.get("chat_template")))
}

fn from_files(directory: &Path) -> Result<BTreeMap<String, String>, GenerationError> {
    let mut templates = BTreeMap::new();
    if let Some(source) = read_template(&directory.join("chat_template.jinja"))? {
        templates.insert("default".to_owned(), source);
    }
    let additional = directory.join("additional_chat_templates");
    let unreadable =
        |source: std::io::Error| GenerationError::UnreadableFile { path: additional.clone(), source: Box::new(source) };
    let entries = match fs::read_dir(&additional) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(templates),
        opened => opened.map_err(unreadable)?,
    };
    for entry in entries.take(TEMPLATES_LIMIT) {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        let is_template = path.extension().is_some_and(|extension| extension == "jinja");
        if let Some(name) = name.filter(|_| is_template)
            && let Some(source) = read_template(&path)?
        {
            templates.insert(name, source);
        }
    }
    Ok(templates)
}

/// The template in a file.
pub(super) fn from_file(path: &Path) -> Result<String, GenerationError> {
    read_template(path)?.ok_or_else(|| GenerationError::UnreadableFile {
        path: path.to_owned(),
        source: Box::new(std::io::Error::from(ErrorKind::NotFound)),
    })
}

/// One template, a list of `{"name": .., "template": ..}`, or an object of them by name.
fn from_value(value: Option<&Value>) -> BTreeMap<String, String> {
    match value {
        Some(Value::String(source)) => BTreeMap::from([("default".to_owned(), source.clone())]),
        Some(Value::Array(list)) => list.iter().filter_map(named).collect(),
        Some(Value::Object(named)) => {
            named.iter().filter_map(|(name, source)| Some((name.clone(), source.as_str()?.to_owned()))).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn named(entry: &Value) -> Option<(String, String)> {
    Some((entry.get("name")?.as_str()?.to_owned(), entry.get("template")?.as_str()?.to_owned()))
}
