//! The defaults of a config class for absent keys.

use serde_json::{Value, json};

use crate::ConfigError;

/// The defaults of a config class, as plain constant data for a `static`.
///
/// ```
/// use automodel_config::{ClassDefaults, DefaultValue};
///
/// static GPT2: ClassDefaults = ClassDefaults {
///     values: &[("hidden_size", DefaultValue::Int(768)), ("n_inner", DefaultValue::Null)],
///     aliases: &[("n_embd", "hidden_size")],
/// };
/// assert_eq!(GPT2.values.len(), 2);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassDefaults {
    /// Canonical key and the value that an *absent* key takes. An explicit `null` in the file stays `null`.
    pub values: &'static [(&'static str, DefaultValue)],
    /// Name used in files, and its canonical key. If a file has both, the canonical one counts.
    pub aliases: &'static [(&'static str, &'static str)],
}

/// A JSON value that can be written in a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    /// `null`, which usually means "derive it".
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A string.
    Str(&'static str),
    /// Any other value, as JSON text.
    Json(&'static str),
}

impl DefaultValue {
    pub(crate) fn to_value(self, key: &str) -> Result<Value, ConfigError> {
        Ok(match self {
            DefaultValue::Null => Value::Null,
            DefaultValue::Bool(value) => json!(value),
            DefaultValue::Int(value) => json!(value),
            DefaultValue::Float(value) => crate::json::float_value(value),
            DefaultValue::Str(value) => json!(value),
            DefaultValue::Json(text) => match crate::json::parse(text) {
                Ok(parsed) => parsed.value,
                Err(_) => {
                    return Err(ConfigError::InvalidClassDefault { key: key.to_owned(), json: text.to_owned() });
                }
            },
        })
    }
}
