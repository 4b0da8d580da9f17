//! Values by which the caller overrides the file.

use serde_json::{Map, Value};

use crate::{ConfigError, json, merge};

/// Values by which the caller overrides the file.
///
/// Keys are dotted paths; objects merge into existing ones, anything else replaces the value. Later entries win. Either name of
/// an aliased key works.
///
/// ```
/// use automodel_config::Overrides;
/// use serde_json::json;
///
/// let overrides = Overrides::new().set("rope_parameters.factor", json!(4.0)).set("num_hidden_layers", json!(2));
/// let same = Overrides::parse(["rope_parameters.factor=4.0", "num_hidden_layers=2"])?;
/// assert_eq!(overrides, same);
/// # Ok::<(), automodel_config::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    values: Map<String, Value>,
}

impl Overrides {
    /// No overrides.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one value at a dotted key. An object merges with what earlier entries set at that key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let nested = key.rsplit('.').fold(value.into(), |value, segment| {
            let mut map = Map::new();
            map.insert(segment.to_owned(), value);
            Value::Object(map)
        });
        if let Value::Object(patch) = nested {
            merge::merge(&mut self.values, &patch);
        }
        self
    }

    /// Reads entries such as `num_hidden_layers=2`. The value is JSON (with Python's `NaN` and `Infinity`), and a string
    /// when it is not.
    ///
    /// # Errors
    /// An entry without `=`, or with an empty key or sub-key.
    pub fn parse<I>(entries: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        entries.into_iter().try_fold(Self::new(), |overrides, entry| {
            let entry = entry.as_ref();
            let malformed = |problem| ConfigError::MalformedOverride { text: entry.to_owned(), problem };
            let (key, text) = entry.split_once('=').ok_or_else(|| malformed("has no `=`"))?;
            let key = key.trim();
            check_key(key).map_err(malformed)?;
            let value = match json::parse(text) {
                Ok(parsed) => parsed.value,
                Err(json::ParseError::TooDeep) => return Err(malformed("is nested too deeply")),
                Err(json::ParseError::Syntax { .. }) => Value::String(text.to_owned()),
            };
            Ok(overrides.set(key, value))
        })
    }

    /// These overrides, overridden by `later`.
    #[must_use]
    pub fn merged_with(mut self, later: &Overrides) -> Self {
        merge::merge(&mut self.values, &later.values);
        self
    }

    /// Whether there are no overrides.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Dotted keys and values of the leaves.
    pub fn entries(&self) -> Vec<(String, &Value)> {
        merge::leaves(&self.values)
    }

    pub(crate) fn values(&self) -> &Map<String, Value> {
        &self.values
    }
}

/// Refuses keys with empty parts and too deeply nested ones.
pub(crate) fn check_key(key: &str) -> Result<(), &'static str> {
    if key.split('.').any(str::is_empty) {
        return Err("has an empty key or sub-key");
    }
    if key.split('.').count() > json::NESTING_LIMIT {
        return Err("is nested too deeply");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_json_or_else_strings() {
        let overrides =
            Overrides::parse(["a=1", "b=text", "c=[1, 2]", "d=\"1\"", "e=", "f=x=y", "g=Infinity", "h=null"]);
        let values = overrides.expect("well formed").values;
        assert_eq!(
            Value::Object(values),
            json!({"a": 1, "b": "text", "c": [1, 2], "d": "1", "e": "", "f": "x=y", "g": {"__float__": "Infinity"}, "h": null})
        );
    }

    #[test]
    fn later_entries_win_and_objects_merge() {
        let overrides = Overrides::new().set("a", json!({"x": 1, "y": 2})).set("a.y", 3).set("a", json!({"z": 4}));
        assert_eq!(Value::Object(overrides.values), json!({"a": {"x": 1, "y": 3, "z": 4}}));
    }

    #[test]
    fn malformed_entries_are_named() {
        for entry in ["a", "=1", "a..b=1", ".a=1", "a.=1"] {
            let error = Overrides::parse([entry]).expect_err(entry);
            assert!(error.to_string().contains(entry), "{error}");
        }
    }
}
