//! The config as its author wrote it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    ClassDefaults, ConfigError, ConfigWarning, Overrides, ResolvedConfig, files,
    json::{self, NESTING_LIMIT, ParseError},
    merge, resolve,
    typed::QUANTIZATION_KEYS,
};

/// Maximum size of a config file in bytes.
pub const FILE_SIZE_LIMIT: u64 = 64 * 1024 * 1024;

/// Keys of the text model in wrappers (`PreTrainedConfig.get_text_config` of transformers).
pub(crate) const TEXT_CONFIG_KEYS: [&str; 4] = ["text_config", "decoder", "generator", "text_encoder"];

/// A parsed config.json.
///
/// ```
/// use automodel_config::RawConfig;
///
/// let raw = RawConfig::from_str(r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#)?;
/// assert_eq!(raw.model_type()?, "llama");
/// assert_eq!(raw.architectures(), ["LlamaForCausalLM"]);
/// # Ok::<(), automodel_config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RawConfig {
    /// The effective keys: those of the text model once it is unwrapped.
    pub(crate) values: Map<String, Value>,
    /// The wrapper and its key of the text model.
    pub(crate) wrapper: Option<(&'static str, Map<String, Value>)>,
    /// Derived keys, and why.
    pub(crate) derived: BTreeMap<String, &'static str>,
    pub(crate) path: Option<PathBuf>,
    pub(crate) warnings: Vec<ConfigWarning>,
}

impl RawConfig {
    /// Reads a file, or the `config.json` of a directory.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`FILE_SIZE_LIMIT`], is not UTF-8, is not JSON as Python reads it, is nested too
    /// deeply, or is not an object.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let path = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
        let (values, warnings) = read_object(&path)?;
        Ok(Self { values, wrapper: None, derived: BTreeMap::new(), path: Some(path), warnings })
    }

    /// Parses a text.
    ///
    /// # Errors
    /// The text is larger than [`FILE_SIZE_LIMIT`], is not JSON as Python reads it, is nested too deeply, or is not an object.
    #[expect(clippy::should_implement_trait, reason = "reads like `from_file` and `from_value`")]
    pub fn from_str(json: &str) -> Result<Self, ConfigError> {
        let (values, warnings) = parse_object(json.as_bytes(), &location(None))?;
        Ok(Self { values, wrapper: None, derived: BTreeMap::new(), path: None, warnings })
    }

    /// From a parsed value.
    ///
    /// # Errors
    /// The value is not an object or is nested too deeply.
    pub fn from_value(value: Value) -> Result<Self, ConfigError> {
        if !json::is_shallow(&value) {
            return Err(ConfigError::ExcessiveNesting { location: location(None), limit: NESTING_LIMIT });
        }
        let values = expect_object(value, &location(None))?;
        Ok(Self { values, wrapper: None, derived: BTreeMap::new(), path: None, warnings: Vec::new() })
    }

    /// The file, if the config was read from one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// `model_type` of the text model, which decides the architecture. For a wrapper whose text model has none, that of
    /// the wrapper.
    ///
    /// # Errors
    /// No `model_type` anywhere, or one that is not a string.
    pub fn model_type(&self) -> Result<&str, ConfigError> {
        let text = self.text_config_key().and_then(|key| self.values.get(key)).and_then(Value::as_object);
        let outer = self.wrapper.as_ref().map(|(_, outer)| outer);
        let found = [text, Some(&self.values), outer]
            .into_iter()
            .flatten()
            .find_map(|map| map.get("model_type").filter(|value| !value.is_null()));
        match found {
            Some(Value::String(name)) if !name.is_empty() => Ok(name),
            Some(value) if !value.is_string() => Err(ConfigError::InvalidValue {
                key: "model_type".into(),
                alias: None,
                value: resolve::shorten(value).into(),
                origin: crate::Origin::File,
                expected: "a string".into(),
                location: location(self.path()).into(),
            }),
            _ => Err(ConfigError::MissingModelType { location: location(self.path()) }),
        }
    }

    /// `architectures` of the outermost config; empty when missing or null. Entries that are not strings are left out.
    pub fn architectures(&self) -> Vec<String> {
        let outer = self.wrapper.as_ref().map_or(&self.values, |(_, outer)| outer);
        match outer.get("architectures") {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(name)) => vec![name.clone()],
            _ => Vec::new(),
        }
    }

    /// The value at a dotted key, `null` included.
    pub fn get(&self, dotted: &str) -> Option<&Value> {
        merge::get(&self.values, dotted)
    }

    /// The wrapper's value at a dotted key, once the text model is unwrapped; before, and without wrapper, as
    /// [`get`](Self::get).
    pub fn get_outer(&self, dotted: &str) -> Option<&Value> {
        merge::get(self.wrapper.as_ref().map_or(&self.values, |(_, outer)| outer), dotted)
    }

    /// The key of a text model that is not unwrapped yet (`text_config`, `decoder`, `generator` or `text_encoder`).
    ///
    /// `None` without wrapper, when already unwrapped, and when several candidates make the choice ambiguous
    /// ([`resolve`](Self::resolve) then refuses).
    pub fn text_config_key(&self) -> Option<&'static str> {
        match self.text_config_candidates().as_slice() {
            [key] => Some(key),
            _ => None,
        }
    }

    fn text_config_candidates(&self) -> Vec<&'static str> {
        let is_wrapped = |key: &&str| self.wrapper.is_none() && self.values.get(*key).is_some_and(Value::is_object);
        TEXT_CONFIG_KEYS.into_iter().filter(is_wrapped).collect()
    }

    /// Replaces the wrapper's keys by the text model's; a config without wrapper is unchanged.
    ///
    /// A non-null `quantization_config` of the wrapper replaces the text model's (as in `auto_factory.py` of transformers 5.23), and
    /// its `dtype` is used if the text model has none.
    pub fn unwrap_text_config(mut self) -> Self {
        let Some(key) = self.text_config_key() else { return self };
        let Some(Value::Object(mut text)) = self.values.get(key).cloned() else { return self };
        let non_null = |map: &Map<String, Value>, key: &str| map.get(key).filter(|value| !value.is_null()).cloned();
        for name in QUANTIZATION_KEYS {
            if let Some(quantization) = non_null(&self.values, name) {
                text.insert(name.into(), quantization);
            }
        }
        if non_null(&text, "dtype").or_else(|| non_null(&text, "torch_dtype")).is_none()
            && let Some(dtype) = non_null(&self.values, "dtype").or_else(|| non_null(&self.values, "torch_dtype"))
        {
            text.remove("torch_dtype");
            text.insert("dtype".into(), dtype);
        }
        let outer = std::mem::replace(&mut self.values, text);
        self.wrapper = Some((key, outer));
        self
    }

    /// Moves the keys of a text model that stand among those of its wrapper into a `text_config`: all but those that `stays` names,
    /// the parts (`vision_config`) and what is read of wrappers. A config that has a text model, under any key, is unchanged.
    pub fn nest_text_config(mut self, stays: impl Fn(&str) -> bool) -> Self {
        const OF_WRAPPERS: [&str; 3] = ["model_type", "architectures", "transformers_version"];
        if self.wrapper.is_some() || !self.text_config_candidates().is_empty() {
            return self;
        }
        let is_outer = |key: &str, value: &Value| {
            let is_part = value.is_object() && key.ends_with("_config");
            is_part || OF_WRAPPERS.contains(&key) || QUANTIZATION_KEYS.contains(&key) || stays(key)
        };
        let (mut outer, text): (Map<_, _>, Map<_, _>) =
            std::mem::take(&mut self.values).into_iter().partition(|(key, value)| is_outer(key, value));
        outer.insert("text_config".to_owned(), Value::Object(text));
        self.values = outer;
        self
    }

    /// The wrapper around the text model, once that is unwrapped.
    pub fn wrapper(&self) -> Option<Wrapper<'_>> {
        self.wrapper.as_ref().map(|(key, outer)| Wrapper::new(key, outer))
    }

    /// Sets a top-level key of the text model to a derived value, from its wrapper for instance: it replaces the file's value, yields
    /// to overrides, and is written with the config
    /// ([`Origin::Derived`](crate::Origin::Derived)).
    pub fn set_derived(&mut self, key: &str, value: Value, why: &'static str) {
        self.values.insert(key.to_owned(), value);
        self.derived.insert(key.to_owned(), why);
    }

    /// This config with the overrides of the keys that select a config class (`model_type`, `layer_types`, `architectures`), so that
    /// the class is that of the requested model.
    pub fn with_class_overrides(mut self, overrides: &Overrides) -> Self {
        let wrapped = self.text_config_key().or(self.wrapper.as_ref().map(|(key, _)| *key));
        let of_text = wrapped.and_then(|key| overrides.values().get(key)).and_then(Value::as_object);
        for key in ["model_type", "layer_types"] {
            if let Some(value) = of_text.and_then(|text| text.get(key)).or_else(|| overrides.values().get(key)) {
                let text = match self.text_config_key().and_then(|wrapped| self.values.get_mut(wrapped)) {
                    Some(Value::Object(text)) => text,
                    _ => &mut self.values,
                };
                text.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(value) = overrides.values().get("architectures") {
            let outer = self.wrapper.as_mut().map_or(&mut self.values, |(_, outer)| outer);
            outer.insert("architectures".to_owned(), value.clone());
        }
        self
    }

    /// Applies overrides, then aliases, then class defaults. A wrapped text model is unwrapped first.
    ///
    /// # Errors
    /// Several candidates for the text model, an override of an unknown key, a class default that is not JSON, or no
    /// `model_type`.
    pub fn resolve(self, defaults: &ClassDefaults, overrides: &Overrides) -> Result<ResolvedConfig, ConfigError> {
        let candidates = self.text_config_candidates();
        if candidates.len() > 1 {
            let keys = candidates.into_iter().map(str::to_owned).collect();
            return Err(ConfigError::AmbiguousTextConfig { location: location(self.path()), keys });
        }
        resolve::resolve(self.unwrap_text_config(), defaults, overrides)
    }
}

/// The wrapper config around that of a text model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wrapper<'a> {
    /// Its key of the text model.
    pub key: &'static str,
    /// Its own `model_type`.
    pub model_type: Option<&'a str>,
    values: &'a Map<String, Value>,
}

impl<'a> Wrapper<'a> {
    pub(crate) fn new(key: &'static str, values: &'a Map<String, Value>) -> Self {
        Self { key, model_type: values.get("model_type").and_then(Value::as_str), values }
    }

    /// The configs of its parts, the text model's too, with their keys: objects called `text_config`, `vision_config` and so on.
    pub fn parts(&self) -> impl Iterator<Item = (&'a str, &'a Map<String, Value>)> {
        const NO_PARTS: [&str; 3] = ["quantization_config", "compression_config", "generation_config"];
        let key = self.key;
        let is_part = move |name: &str| name == key || (name.ends_with("_config") && !NO_PARTS.contains(&name));
        let objects = self.values.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_object()?)));
        objects.filter(move |(name, _)| is_part(name))
    }

    /// Its value at a dotted key, unless that is null.
    pub fn get(&self, dotted: &str) -> Option<&'a Value> {
        merge::get(self.values, dotted).filter(|value| !value.is_null())
    }
}

/// A description of the source of a config, for messages.
pub(crate) fn location(path: Option<&Path>) -> String {
    path.map_or_else(|| "the config".to_owned(), |path| path.display().to_string())
}

/// Reads a file with one object.
pub(crate) fn read_object(path: &Path) -> Result<(Map<String, Value>, Vec<ConfigWarning>), ConfigError> {
    let unreadable = |source| ConfigError::UnreadableFile { path: path.to_owned(), source };
    let bytes = match files::read(path, FILE_SIZE_LIMIT) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(ConfigError::OversizedFile { location: location(Some(path)), limit: FILE_SIZE_LIMIT });
        }
        result => result.map_err(unreadable)?,
    };
    parse_object(&bytes, &location(Some(path)))
}

/// Parses one object.
pub(crate) fn parse_object(
    bytes: &[u8],
    location: &str,
) -> Result<(Map<String, Value>, Vec<ConfigWarning>), ConfigError> {
    if bytes.len() as u64 > FILE_SIZE_LIMIT {
        return Err(ConfigError::OversizedFile { location: location.to_owned(), limit: FILE_SIZE_LIMIT });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ConfigError::InvalidEncoding { location: location.to_owned(), offset: error.valid_up_to() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = json::parse(text).map_err(|error| match error {
        ParseError::TooDeep => ConfigError::ExcessiveNesting { location: location.to_owned(), limit: NESTING_LIMIT },
        ParseError::Syntax { offset, problem } => {
            let (line, column) = json::line_and_column(text, offset);
            ConfigError::InvalidJson { location: location.to_owned(), line, column, problem }
        }
    })?;
    let warnings = parsed.repeated_keys.into_iter().map(|key| ConfigWarning::RepeatedKey { key }).collect();
    Ok((expect_object(parsed.value, location)?, warnings))
}

fn expect_object(value: Value, location: &str) -> Result<Map<String, Value>, ConfigError> {
    let found = match value {
        Value::Object(map) => return Ok(map),
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    };
    Err(ConfigError::NotAnObject { location: location.to_owned(), found })
}
