//! What can be wrong with a config.

use std::path::PathBuf;

use crate::Origin;

/// Everything that this crate refuses, with the data needed to say where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: check that the file exists and that you may read it", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// The cause, from the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any config.
    #[error(
        "{location} has more than {limit} bytes, which no config has: check that the path names a config and not a weight file"
    )]
    OversizedFile {
        /// The file, or words for a text that came from elsewhere.
        location: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are not UTF-8.
    #[error("{location} is not UTF-8 text (first bad byte at offset {offset}): save it again as UTF-8")]
    InvalidEncoding {
        /// The file, or words for a text that came from elsewhere.
        location: String,
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// The text is not JSON (as Python reads it).
    #[error("{location}, line {line}, column {column}: not JSON: {problem}")]
    InvalidJson {
        /// The file, or words for a text that came from elsewhere.
        location: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What was found there.
        problem: String,
    },
    /// Objects and lists are nested deeper than any config has them.
    #[error("{location} nests objects and lists deeper than {limit} levels, which no config does")]
    ExcessiveNesting {
        /// The file, or words for a text that came from elsewhere.
        location: String,
        /// The limit in levels.
        limit: usize,
    },
    /// The JSON is not an object.
    #[error("{location} holds {found} where an object with the keys of a config is needed")]
    NotAnObject {
        /// The file, or words for a text that came from elsewhere.
        location: String,
        /// What was found, in words.
        found: &'static str,
    },
    /// Nothing says which architecture this is.
    #[error(
        "{location} has no `model_type`, so the architecture is unknown: add one to the file, such as \"model_type\": \"llama\", or override it with model_type=llama"
    )]
    MissingModelType {
        /// The file, or words for a text that came from elsewhere.
        location: String,
    },
    /// Several sub-configs could be the text model.
    #[error("{location} has several text models ({}): point at a config that has only one of them", keys.join(", "))]
    AmbiguousTextConfig {
        /// The file, or words for a text that came from elsewhere.
        location: String,
        /// The keys of the candidates.
        keys: Vec<String>,
    },
    /// A key that is needed is absent and its class assumes nothing for it.
    #[error(
        "{location} has no `{key}`, and the config class assumes no value for it: add it to the file or override it with {key}=VALUE"
    )]
    MissingKey {
        /// Dotted key.
        key: String,
        /// The file, or words for a text that came from elsewhere.
        location: String,
    },
    /// A value is of the wrong kind or out of range.
    #[error(
        "`{key}`{} is {value} in {location} ({origin}), but must be {expected}: correct the file or override the value",
        written(alias)
    )]
    InvalidValue {
        /// Dotted key.
        key: String,
        /// Name of the key in the file, where that is an alias.
        alias: Option<String>,
        /// The value as JSON, shortened.
        value: Box<str>,
        /// Where the value came from.
        origin: Origin,
        /// What is accepted, in words.
        expected: Box<str>,
        /// The file, or words for a text that came from elsewhere.
        location: Box<str>,
    },
    /// An override could not be understood.
    #[error("override `{text}` {problem}: write it as key=value or key.subkey=value")]
    MalformedOverride {
        /// The override as given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An override names a key that nothing knows.
    #[error(
        "override of unknown key `{key}`{}: check the spelling; a key can be overridden if the file, its class or transformers knows it",
        near(nearest)
    )]
    UnknownOverride {
        /// Dotted key.
        key: String,
        /// Known names that are spelled nearly the same, best first.
        nearest: Vec<String>,
    },
    /// `layer_types` names fewer layers than there are.
    #[error(
        "`layer_types` of {location} has {given} entries for {num_hidden_layers} layers (`num_hidden_layers`): add the missing entries or lower num_hidden_layers"
    )]
    ShortLayerTypes {
        /// Entries given.
        given: usize,
        /// Layers of the model.
        num_hidden_layers: usize,
        /// The file, or words for a text that came from elsewhere.
        location: String,
    },
    /// A rope type that transformers 5.23 does not have either.
    #[error("`{key}` is \"{rope_type}\" in {location}, which is no rope type of transformers; known are {}", known.join(", "))]
    UnknownRopeType {
        /// Dotted key.
        key: String,
        /// The type asked for.
        rope_type: String,
        /// The types that exist.
        known: &'static [&'static str],
        /// The file, or words for a text that came from elsewhere.
        location: String,
    },
    /// A value by which the config is not that of a causal language model.
    #[error("`{key}` is {value} in {location}, so this is no causal language model: {reason}")]
    OtherModel {
        /// Dotted key.
        key: String,
        /// The value as JSON, shortened.
        value: Box<str>,
        /// What it would change.
        reason: &'static str,
        /// The file, or words for a text that came from elsewhere.
        location: Box<str>,
    },
    /// Keys that might change what the model computes and that nobody looked at.
    #[error(
        "nothing reads {} of {location}, which may change what the model computes: if you know that it does not, pass the name in the list of allowed keys",
        unread_list(keys)
    )]
    UnreadKeys {
        /// The keys, sorted.
        keys: Vec<UnreadKey>,
        /// The file, or words for a text that came from elsewhere.
        location: String,
    },
    /// A default written in a program is not JSON.
    #[error("the class default of `{key}` is not JSON, correct the family's `ClassDefaults`: {json}")]
    InvalidClassDefault {
        /// The key.
        key: String,
        /// The text of the default.
        json: String,
    },
}

/// A key that nobody read, and what it may be a misspelling of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadKey {
    /// Dotted key.
    pub key: String,
    /// Known names that are spelled nearly the same, best first.
    pub nearest: Vec<String>,
}

fn written(alias: &Option<String>) -> String {
    alias.as_ref().map(|alias| format!(" (`{alias}` in the file)")).unwrap_or_default()
}

fn near(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(" (near names: {})", names.join(", ")),
    }
}

fn unread_list(keys: &[UnreadKey]) -> String {
    let items: Vec<String> = keys.iter().map(|item| format!("`{}`{}", item.key, near(&item.nearest))).collect();
    items.join(", ")
}
