//! The arguments of a call.

use super::error::{Result, failed};
use super::value::{Value, shortened};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl Arguments {
    /// The argument called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.named.iter().find(|(other, _)| **other == *name).map(|(_, value)| value)
    }

    /// The arguments of `function` in the order of its parameters, of which the first `required` are required.
    pub(super) fn bind<const N: usize>(
        self,
        function: &str,
        parameters: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N]> {
        if self.positional.len() > N {
            return failed(format!("`{function}` takes at most {N} arguments, not {}", self.positional.len()));
        }
        let mut bound = [const { None }; N];
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let Some(index) = parameters.iter().position(|parameter| **parameter == *name) else {
                return failed(format!("`{function}` has no argument `{}`", shortened(&name)));
            };
            if bound[index].replace(value).is_some() {
                return failed(format!("`{function}` got two values for `{name}`"));
            }
        }
        match bound[..required].iter().position(Option::is_none) {
            Some(missing) => failed(format!("`{function}` needs the argument `{}`", parameters[missing])),
            None => Ok(bound),
        }
    }
}

/// A string argument of `function`.
pub(super) fn string<'v>(function: &str, value: &'v Value) -> Result<&'v str> {
    match value.as_str() {
        Some(text) => Ok(text),
        None => failed(format!("`{function}` needs a string, not '{}'", value.type_name())),
    }
}

/// An optional string; `none` counts as absent.
pub(super) fn optional_string<'v>(function: &str, value: &'v Option<Value>) -> Result<Option<&'v str>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => string(function, value).map(Some),
    }
}

/// An optional integer; `none` counts as absent.
pub(super) fn optional_int(function: &str, value: &Option<Value>) -> Result<Option<i128>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            Some(integer) => Ok(Some(integer)),
            None => failed(format!("`{function}` needs an integer, not '{}'", value.type_name())),
        },
    }
}

/// An optional size; negative values count as 0.
pub(super) fn size(function: &str, value: &Option<Value>, default: usize) -> Result<usize> {
    let size = optional_int(function, value)?;
    Ok(size.map_or(default, |size| usize::try_from(size.max(0)).unwrap_or(usize::MAX)))
}

/// An optional boolean, false by default.
pub(super) fn flag(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::is_true)
}
