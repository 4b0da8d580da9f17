//! Other JSON files of a checkpoint, parsed like its config.

use serde_json::{Map, Value};

use crate::{ConfigError, json, raw};

/// Parses bytes that hold one JSON object as Python reads it: `NaN` and `Infinity` are numbers, of a repeated key the last
/// one counts, and a byte order mark may come first. The literals that JSON lacks become tagged objects, which
/// [`json_number`] reads. `location` is named in errors.
///
/// # Errors
/// The bytes are too many, not UTF-8, not such JSON, nested too deeply, or not an object.
///
/// ```
/// let object = automodel_config::parse_json_object(br#"{"model_max_length": Infinity}"#, "tokenizer_config.json")?;
/// assert_eq!(automodel_config::json_number(&object["model_max_length"]), Some(f64::INFINITY));
/// # Ok::<(), automodel_config::ConfigError>(())
/// ```
pub fn parse_json_object(bytes: &[u8], location: &str) -> Result<Map<String, Value>, ConfigError> {
    raw::parse_object(bytes, location).map(|(object, _)| object)
}

/// The number of a value, plain or tagged.
pub fn json_number(value: &Value) -> Option<f64> {
    json::as_float(value)
}
