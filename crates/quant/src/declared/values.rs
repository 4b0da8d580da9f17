//! Values of a `quantization_config`, of the kinds that they must have.

use crate::QuantError;
use serde_json::{Map, Value};

pub(super) fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, QuantError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => {
            let problem = format!("is {other}, but true or false is expected");
            Err(QuantError::InvalidConfig { key: Some(key.to_owned()), problem })
        }
    }
}

pub(super) fn names(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, QuantError> {
    let invalid = |value: &Value| QuantError::InvalidConfig {
        key: Some(key.to_owned()),
        problem: format!("is {value}, but a list of module names is expected"),
    };
    match object.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            list.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(|| invalid(name))).collect()
        }
        Some(other) => Err(invalid(other)),
    }
}
