//! Errors.

use std::path::PathBuf;

use crate::Origin;

/// An error of this crate: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: check that the file exists and its permissions", path.display())]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// The cause, from the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The file exceeds the size limit.
    #[error(
        "{location} exceeds the limit of {limit} bytes for a config: check that the path names a config and not a weight file"
    )]
    OversizedFile {
        /// The file, or a description of a text from elsewhere.
        location: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are not UTF-8.
    #[error("{location} is not UTF-8 text (first invalid byte at offset {offset}): save it again as UTF-8")]
    InvalidEncoding {
        /// The file, or a description of a text from elsewhere.
        location: String,
        /// Offset of the first invalid byte.
        offset: usize,
    },
    /// The text is not JSON (as Python reads it).
    #[error("{location}, line {line}, column {column}: not JSON: {problem}")]
    InvalidJson {
        /// The file, or a description of a text from elsewhere.
        location: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The problem.
        problem: String,
    },
    /// Objects and lists exceed the nesting limit.
    #[error("{location} nests objects and lists deeper than the limit of {limit} levels")]
    ExcessiveNesting {
        /// The file, or a description of a text from elsewhere.
        location: String,
        /// The limit in levels.
        limit: usize,
    },
    /// The JSON is not an object.
    #[error("{location} contains {found}, but a config must be an object")]
    NotAnObject {
        /// The file, or a description of a text from elsewhere.
        location: String,
        /// The kind of the value.
        found: &'static str,
    },
    /// The architecture is unknown.
    #[error(
        "{location} has no `model_type`, so the architecture is unknown: add one to the file, such as \"model_type\": \"llama\", or override it with model_type=llama"
    )]
    MissingModelType {
        /// The file, or a description of a text from elsewhere.
        location: String,
    },
    /// Several sub-configs could be the text model.
    #[error("{location} has several text models ({}): point at a config that has only one of them", keys.join(", "))]
    AmbiguousTextConfig {
        /// The file, or a description of a text from elsewhere.
        location: String,
        /// The keys of the candidates.
        keys: Vec<String>,
    },
    /// A required key is absent, and its class has no default for it.
    #[error(
        "{location} has no `{key}`, and the config class has no default for it: add it to the file or override it with {key}=VALUE"
    )]
    MissingKey {
        /// Dotted key.
        key: String,
        /// The file, or a description of a text from elsewhere.
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
        /// Name of the key in the file, if that is an alias.
        alias: Option<String>,
        /// The value as JSON, shortened.
        value: Box<str>,
        /// Where the value came from.
        origin: Origin,
        /// The accepted values.
        expected: Box<str>,
        /// The file, or a description of a text from elsewhere.
        location: Box<str>,
    },
    /// An override could not be understood.
    #[error("override `{text}` {problem}: write it as key=value or key.subkey=value")]
    MalformedOverride {
        /// The override as given.
        text: String,
        /// The problem.
        problem: &'static str,
    },
    /// An override of an unknown key.
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
        /// Number of entries.
        given: usize,
        /// Layers of the model.
        num_hidden_layers: usize,
        /// The file, or a description of a text from elsewhere.
        location: String,
    },
    /// A rope type that transformers 5.23 does not have.
    #[error("`{key}` is \"{rope_type}\" in {location}, which is not a rope type of transformers; it must be one of {}", known.join(", "))]
    UnknownRopeType {
        /// Dotted key.
        key: String,
        /// The type.
        rope_type: String,
        /// The existing types.
        known: &'static [&'static str],
        /// The file, or a description of a text from elsewhere.
        location: String,
    },
    /// A value that makes the config one of another kind of model.
    #[error("`{key}` is {value} in {location}, so this is not a causal language model: {reason}")]
    OtherModel {
        /// Dotted key.
        key: String,
        /// The value as JSON, shortened.
        value: Box<str>,
        /// The effect of the value.
        reason: &'static str,
        /// The file, or a description of a text from elsewhere.
        location: Box<str>,
    },
    /// Unread keys that may change the model's computation.
    #[error(
        "{location} has unread keys that may change what the model computes: {}; if a key has no effect, add it to the allowed keys",
        unread_list(keys)
    )]
    UnreadKeys {
        /// The keys, sorted.
        keys: Vec<UnreadKey>,
        /// The file, or a description of a text from elsewhere.
        location: String,
    },
    /// A class default in the source code is not JSON.
    #[error("the class default of `{key}` is not JSON, correct the family's `ClassDefaults`: {json}")]
    InvalidClassDefault {
        /// The key.
        key: String,
        /// The text of the default.
        json: String,
    },
}

/// An unread key, and the known keys that it may be a misspelling of.
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
