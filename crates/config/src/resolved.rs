//! The effective keys, each with its origin.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Map, Value};

use crate::{
    ConfigWarning, Origin, merge,
    raw::{Wrapper, location},
};

/// The effective keys after overrides, aliases and class defaults, each with its origin.
///
/// Every read is recorded, so that [`check_all_read`](Self::check_all_read) can name the unread keys.
///
/// ```
/// use automodel_config::{ClassDefaults, DefaultValue, Origin, Overrides, RawConfig};
///
/// static DEFAULTS: ClassDefaults = ClassDefaults {
///     values: &[("num_key_value_heads", DefaultValue::Int(8)), ("head_dim", DefaultValue::Null)],
///     aliases: &[("n_embd", "hidden_size")],
/// };
/// let raw = RawConfig::from_str(r#"{"model_type": "example", "n_embd": 64}"#)?;
/// let config = raw.resolve(&DEFAULTS, &Overrides::new())?;
/// assert_eq!(config.usize("hidden_size")?, 64);
/// assert_eq!(config.usize("num_key_value_heads")?, 8);
/// assert_eq!(config.usize_or_null("head_dim")?, None);
/// assert_eq!(config.origin("num_key_value_heads"), Some(&Origin::ClassDefault));
/// # Ok::<(), automodel_config::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct ResolvedConfig {
    parts: Parts,
    tracking: Mutex<Tracking>,
}

#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) model_type: String,
    pub(crate) architectures: Vec<String>,
    /// Effective values under canonical names.
    pub(crate) values: Map<String, Value>,
    /// Origins by dotted key; a key inherits that of its nearest ancestor.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// Name in the file of each key that was renamed.
    pub(crate) file_names: BTreeMap<String, String>,
    /// The file's keys with the overrides, under the file's names.
    pub(crate) file: Map<String, Value>,
    pub(crate) wrapper: Option<(&'static str, Map<String, Value>)>,
    pub(crate) path: Option<PathBuf>,
    pub(crate) warnings: Vec<ConfigWarning>,
}

#[derive(Clone, Debug, Default)]
struct Tracking {
    read: BTreeSet<String>,
    warnings: Vec<ConfigWarning>,
}

impl Clone for ResolvedConfig {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone(), tracking: Mutex::new(self.tracking().clone()) }
    }
}

impl ResolvedConfig {
    pub(crate) fn from_parts(parts: Parts) -> Self {
        let warnings = parts.warnings.clone();
        Self { parts, tracking: Mutex::new(Tracking { read: BTreeSet::new(), warnings }) }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// `model_type` of the text model.
    pub fn model_type(&self) -> &str {
        &self.parts.model_type
    }

    /// `architectures` of the outermost config.
    pub fn architectures(&self) -> &[String] {
        &self.parts.architectures
    }

    /// The file, if the config was read from one.
    pub fn path(&self) -> Option<&Path> {
        self.parts.path.as_deref()
    }

    /// The wrapper around the text model, if the file has one.
    pub fn wrapper(&self) -> Option<Wrapper<'_>> {
        self.parts.wrapper.as_ref().map(|(key, outer)| Wrapper::new(key, outer))
    }

    /// The value at a dotted key under its canonical name, `null` included; marks it as read.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let value = self.peek(key)?;
        self.mark_read(key);
        Some(value)
    }

    /// The value at a dotted key, without marking it as read.
    pub fn peek(&self, key: &str) -> Option<&Value> {
        merge::get(&self.parts.values, key)
    }

    /// Marks a key, with everything below it, as read: for keys without effect on this model.
    pub fn mark_read(&self, key: &str) {
        let mut tracking = self.tracking();
        if !tracking.read.contains(key) {
            tracking.read.insert(key.to_owned());
        }
    }

    /// Whether a dotted key is `null` or absent. Does not mark it as read.
    pub fn is_null_or_absent(&self, key: &str) -> bool {
        self.peek(key).is_none_or(Value::is_null)
    }

    /// The origin of the value at a dotted key; `None` if the key does not exist.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.peek(key)?;
        let mut prefix = key;
        loop {
            if let Some(origin) = self.parts.origins.get(prefix) {
                return Some(origin);
            }
            prefix = prefix.rsplit_once('.')?.0;
        }
    }

    /// Sets a derived value.
    pub fn set_derived(&mut self, key: &str, value: Value, why: &'static str) {
        let nested = key.rsplit('.').fold(value, |value, segment| {
            let mut map = Map::new();
            map.insert(segment.to_owned(), value);
            Value::Object(map)
        });
        if let Value::Object(patch) = nested {
            merge::merge(&mut self.parts.values, &patch);
            self.parts.origins.insert(key.to_owned(), Origin::Derived(why));
        }
    }

    /// Warnings about this config, in the order found.
    pub fn warnings(&self) -> Vec<ConfigWarning> {
        self.tracking().warnings.clone()
    }

    /// The effective config to write beside saved weights: the author's keys of the text model, with overrides, under the author's
    /// names, without class defaults and derived values.
    pub fn to_json(&self) -> Value {
        Value::Object(self.parts.file.clone())
    }

    /// As [`to_json`](Self::to_json) under canonical names, with class defaults and derived values.
    pub fn to_json_with_defaults(&self) -> Value {
        Value::Object(self.parts.values.clone())
    }

    /// Every effective leaf value with its origin, sorted by dotted key.
    pub fn describe(&self) -> Vec<(String, Value, Origin)> {
        let mut rows: Vec<(String, Value, Origin)> = merge::leaves(&self.parts.values)
            .into_iter()
            .filter_map(|(key, value)| Some((key.clone(), value.clone(), *self.origin(&key)?)))
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    pub(crate) fn location(&self) -> String {
        location(self.path())
    }

    pub(crate) fn warn(&self, warning: ConfigWarning) {
        let mut tracking = self.tracking();
        if !tracking.warnings.contains(&warning) {
            tracking.warnings.push(warning);
        }
    }

    pub(crate) fn was_read(&self, key: &str) -> bool {
        self.tracking().read.contains(key)
    }

    /// A value of the wrapper around the text model.
    pub(crate) fn outer(&self, key: &str) -> Option<&Value> {
        merge::get(&self.parts.wrapper.as_ref()?.1, key)
    }

    pub(crate) fn read_keys(&self) -> BTreeSet<String> {
        self.tracking().read.clone()
    }

    fn tracking(&self) -> MutexGuard<'_, Tracking> {
        // Nothing panics while holding the lock, and a set of names is always consistent.
        self.tracking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
