//! Python's string methods that templates call and that minijinja-contrib does not have, or not within the fuel.

use super::python::{self, Paid};
use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// Calls `value.method(args)` as Python would.
pub(super) fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str().filter(|_| value.kind() == ValueKind::String) else {
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    match method {
        "join" => join(state, text, args),
        "format" => {
            let args = afford_format(state, text, args)?;
            pycompat::unknown_method_callback(state, value, method, &args)
        }
        _ => match string_method(state, text, method, args) {
            Some(result) => result,
            None => pycompat::unknown_method_callback(state, value, method, args),
        },
    }
}

/// Written here because the library's writes its items without fuel.
fn join(state: &State<'_, '_>, separator: &str, args: &[Value]) -> Result<Value, Error> {
    let (items,): (&Value,) = from_args(args)?;
    let mut joined = Paid::new(state);
    for (index, item) in items.try_iter()?.enumerate() {
        if index > 0 {
            joined.push(separator)?;
        }
        joined.push(&python::str(state, &item)?)?;
    }
    Ok(joined.finish().into())
}

/// The library formats without fuel: pays for the widths that `format` asks for and for its arguments in every field, and
/// returns the arguments with lists and objects written out.
fn afford_format(state: &State<'_, '_>, format: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    let widths = format.split(|character: char| !character.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let widths = widths.fold(0u64, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(u64::MAX)));
    let mut longest = 0;
    let mut written = Vec::with_capacity(args.len());
    for arg in args {
        let simple = matches!(arg.kind(), ValueKind::String | ValueKind::Number | ValueKind::Bool | ValueKind::None);
        let arg = if simple || arg.is_kwargs() { arg.clone() } else { python::str(state, arg)?.into() };
        longest = longest.max(arg.as_str().map_or(0, str::len));
        written.push(arg);
    }
    let fields = format.matches('{').count();
    state.consume_fuel(widths.saturating_add(fields.saturating_mul(longest) as u64) / 64)?;
    Ok(written)
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
