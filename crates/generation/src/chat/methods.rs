//! Python's string methods that templates call and that minijinja-contrib does not have.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// Calls `value.method(args)` as Python would.
pub(super) fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.as_str().filter(|_| value.kind() == ValueKind::String) {
        Some(text) => match string_method(state, text, method, args) {
            Some(result) => result,
            None => pycompat::unknown_method_callback(state, value, method, args),
        },
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string_method(state: &State<'_, '_>, text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let run: fn(&str, &[Value]) -> Result<Value, Error> = match method {
        "removeprefix" => |text, args| {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        },
        "removesuffix" => |text, args| {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        },
        "partition" => |text, args| {
            let (separator,) = separator(args)?;
            Ok(text.split_once(separator).map_or([text, "", ""], |(a, b)| [a, separator, b]).into_iter().collect())
        },
        "rpartition" => |text, args| {
            let (separator,) = separator(args)?;
            Ok(text.rsplit_once(separator).map_or(["", "", text], |(a, b)| [a, separator, b]).into_iter().collect())
        },
        "rsplit" => |text, args| {
            let (separator, limit): (&str, Option<usize>) = from_args(args)?;
            if separator.is_empty() {
                return Err(empty_separator());
            }
            let limit = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
            let mut parts: Vec<&str> = text.rsplitn(limit, separator).collect();
            parts.reverse();
            Ok(parts.into_iter().collect())
        },
        _ => return None,
    };
    Some(state.consume_fuel((text.len() / 64) as u64).and_then(|()| run(text, args)))
}

fn separator(args: &[Value]) -> Result<(&str,), Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() { Err(empty_separator()) } else { Ok((separator,)) }
}

fn empty_separator() -> Error {
    Error::new(ErrorKind::InvalidOperation, "empty separator")
}
