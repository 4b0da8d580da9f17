//! Typed reading of values.

use serde_json::Value;

use crate::{
    ConfigError, ConfigWarning, Origin, ResolvedConfig, json,
    ranges::{self, Range, SIZE_LIMIT},
    resolve,
};

type Result<T> = std::result::Result<T, ConfigError>;

/// Keys of the quantisation config: that of transformers, of MLX, and of early compressed-tensors.
pub(crate) const QUANTIZATION_KEYS: [&str; 3] = ["quantization_config", "quantization", "compression_config"];

/// Names of layer types in older configs (`remap_legacy_layer_types` of transformers 5.23).
const LEGACY_LAYER_TYPES: [(&str, &str); 4] = [
    ("mamba", "linear_attention"),
    ("attention", "full_attention"),
    ("deepseek_sparse_attention", "indexed_attention"),
    ("qwen_sparse_attention", "indexed_attention"),
];

/// Readers. All take a dotted key under its canonical name and mark it as read. All fail with
/// [`ConfigError::MissingKey`] if a required key is absent and with [`ConfigError::InvalidValue`], which names key, value
/// and origin, when the value is of the wrong kind or out of its key's range (`ranges.rs`). The `_or_null` readers take null
/// and absent as `None`.
impl ResolvedConfig {
    /// A size: an integer of at least 1. Integral floats (`4096.0`, `1e6`) are accepted.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.required_count(key, ranges::of_size(key))
    }

    /// A size, or `None` when null or absent.
    pub fn usize_or_null(&self, key: &str) -> Result<Option<usize>> {
        self.optional_count(key, ranges::of_size(key))
    }

    /// A count: an integer of at least 0. Integral floats are accepted.
    pub fn count(&self, key: &str) -> Result<usize> {
        self.required_count(key, ranges::of_count(key))
    }

    /// A count, or `None` when null or absent.
    pub fn count_or_null(&self, key: &str) -> Result<Option<usize>> {
        self.optional_count(key, ranges::of_count(key))
    }

    /// A finite number.
    pub fn f64(&self, key: &str) -> Result<f64> {
        let range = ranges::of_number(key);
        self.required(key, &numbers(range, ""), |value| within(value, range))
    }

    /// A finite number, or `None` when null or absent.
    pub fn f64_or_null(&self, key: &str) -> Result<Option<f64>> {
        let range = ranges::of_number(key);
        self.optional(key, &numbers(range, " or null"), |value| within(value, range))
    }

    /// A boolean; null is false.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.required(key, "true or false", |value| if value.is_null() { Some(false) } else { value.as_bool() })
    }

    /// A boolean, or `None` when null or absent.
    pub fn bool_or_null(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, "true, false or null", Value::as_bool)
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, "a string", Value::as_str)
    }

    /// A string, or `None` when null or absent.
    pub fn str_or_null(&self, key: &str) -> Result<Option<&str>> {
        self.optional(key, "a string or null", Value::as_str)
    }

    /// A list of counts (0 allowed).
    pub fn list_usize(&self, key: &str) -> Result<Vec<usize>> {
        self.required(key, "a list of integers of at least 0 and below 2147483648", |value| list(value, count))
    }

    /// A list of counts, or `None` when null or absent.
    pub fn list_usize_or_null(&self, key: &str) -> Result<Option<Vec<usize>>> {
        self.optional(key, "a list of integers of at least 0 and below 2147483648, or null", |value| list(value, count))
    }

    /// A list of numbers; infinities are allowed (limits are written so), NaN is not.
    pub fn list_f64(&self, key: &str) -> Result<Vec<f64>> {
        self.required(key, "a list of numbers", |value| list(value, number))
    }

    /// A list of numbers, or `None` when null or absent.
    pub fn list_f64_or_null(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.optional(key, "a list of numbers or null", |value| list(value, number))
    }

    /// A list of booleans.
    pub fn list_bool(&self, key: &str) -> Result<Vec<bool>> {
        self.required(key, "a list of true and false", |value| list(value, Value::as_bool))
    }

    /// A list of booleans, or `None` when null or absent.
    pub fn list_bool_or_null(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.optional(key, "a list of true and false, or null", |value| list(value, Value::as_bool))
    }

    /// A list of strings.
    pub fn list_str(&self, key: &str) -> Result<Vec<String>> {
        self.required(key, "a list of strings", |value| list(value, string))
    }

    /// A list of strings, or `None` when null or absent.
    pub fn list_str_or_null(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.optional(key, "a list of strings or null", |value| list(value, string))
    }

    /// `layer_types`, one per layer, under the current names of transformers; `None` when null or absent.
    ///
    /// A list longer than `num_hidden_layers` is truncated, with a warning that has both lengths.
    ///
    /// # Errors
    /// Not a list of strings, or shorter than `num_hidden_layers` ([`ConfigError::ShortLayerTypes`]).
    pub fn layer_types(&self, num_hidden_layers: usize) -> Result<Option<Vec<String>>> {
        let Some(mut names) = self.list_str_or_null("layer_types")? else { return Ok(None) };
        let given = names.len();
        if given < num_hidden_layers {
            return Err(ConfigError::ShortLayerTypes { given, num_hidden_layers, location: self.location() });
        }
        if given > num_hidden_layers {
            self.warn(ConfigWarning::LayerTypesCut { given, num_hidden_layers });
            names.truncate(num_hidden_layers);
        }
        Ok(Some(names.into_iter().map(current_layer_type).collect()))
    }

    /// The quantisation config: `quantization_config`, or its names in other tools (`quantization` of MLX, `compression_config` of early
    /// compressed-tensors), unless null or absent.
    pub fn quantization_config(&self) -> Option<&Value> {
        let given = QUANTIZATION_KEYS.map(|key| self.value(key));
        given.into_iter().flatten().find(|value| !value.is_null())
    }

    fn required_count(&self, key: &str, range: Range<usize>) -> Result<usize> {
        self.required(key, &integers(range, ""), |value| count(value).filter(|count| range.contains(*count)))
    }

    fn optional_count(&self, key: &str, range: Range<usize>) -> Result<Option<usize>> {
        self.optional(key, &integers(range, " or null"), |value| count(value).filter(|count| range.contains(*count)))
    }

    /// Reads a required value.
    pub(crate) fn required<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self
            .value(key)
            .ok_or_else(|| ConfigError::MissingKey { key: key.to_owned(), location: self.location() })?;
        read(value).ok_or_else(|| self.invalid(key, value, expected))
    }

    /// Reads an optional value.
    pub(crate) fn optional<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.invalid(key, value, expected)),
        }
    }

    /// The error for a value of the wrong kind; also for callers that check more than this crate does.
    pub fn invalid(&self, key: &str, value: &Value, expected: &str) -> ConfigError {
        ConfigError::InvalidValue {
            key: key.to_owned(),
            alias: self.parts().file_names.get(key).cloned(),
            value: resolve::shorten(value).into(),
            origin: self.origin(key).copied().unwrap_or(Origin::File),
            expected: expected.into(),
            location: self.location().into(),
        }
    }
}

fn current_layer_type(name: String) -> String {
    let current = LEGACY_LAYER_TYPES.iter().find(|(legacy, _)| *legacy == name).map(|(_, current)| *current);
    current.map_or(name, str::to_owned)
}

pub(crate) fn count(value: &Value) -> Option<usize> {
    let whole = match value.as_u64() {
        Some(whole) => whole,
        None => {
            let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
            // The range check comes first, so the conversion is exact.
            (0.0..SIZE_LIMIT as f64).contains(&number).then_some(number as u64)?
        }
    };
    usize::try_from(whole).ok().filter(|whole| *whole < SIZE_LIMIT)
}

pub(crate) fn size(value: &Value) -> Option<usize> {
    count(value).filter(|size| *size > 0)
}

/// Describes the integers of a range.
pub(crate) fn integers(range: Range<usize>, or_null: &str) -> String {
    format!("an integer from {} to {}{or_null}", range.least, range.most)
}

/// Describes the numbers of a range.
pub(crate) fn numbers(range: Range<f64>, or_null: &str) -> String {
    // Large and small powers of ten as Python writes them.
    let end = |number: f64| {
        if number == 0.0 || (1e-3..1e7).contains(&number.abs()) { number.to_string() } else { format!("{number:e}") }
    };
    format!("a number from {} to {}{or_null}", end(range.least), end(range.most))
}

pub(crate) fn finite(value: &Value) -> Option<f64> {
    json::as_float(value).filter(|number| number.is_finite())
}

/// The number, if it is within the range.
pub(crate) fn within(value: &Value, range: Range<f64>) -> Option<f64> {
    json::as_float(value).filter(|number| range.contains(*number))
}

fn number(value: &Value) -> Option<f64> {
    json::as_float(value).filter(|number| !number.is_nan())
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub(crate) fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}
