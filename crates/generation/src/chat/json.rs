//! The filter `tojson`, which in transformers is Python's `json.dumps(x, ensure_ascii=False, ..)`.

use super::python::{self, Paid};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Widest indent; Python has no limit, and no template needs more.
const INDENT_LIMIT: usize = 64;

struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// `x | tojson(ensure_ascii, indent, separators, sort_keys)`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    positional: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let argument = |index: usize, name: &str| -> Result<Value, Error> {
        match positional.get(index) {
            Some(value) => Ok(value.clone()),
            None => Ok(named.get::<Option<Value>>(name)?.unwrap_or_default()),
        }
    };
    let style = Style::new(
        argument(0, "ensure_ascii")?.is_true(),
        &argument(1, "indent")?,
        &argument(2, "separators")?,
        argument(3, "sort_keys")?.is_true(),
    )?;
    named.assert_all_used()?;
    let mut out = Paid::new(state);
    write(&mut out, value, &style, 0)?;
    Ok(out.finish())
}

impl Style {
    fn new(ensure_ascii: bool, indent: &Value, separators: &Value, sort_keys: bool) -> Result<Self, Error> {
        let indent = match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => Some(text.to_owned()),
            (_, Some(width)) => Some(" ".repeat(width.min(INDENT_LIMIT))),
            _ if indent.is_none() || indent.is_undefined() => None,
            _ => {
                return Err(Error::new(ErrorKind::InvalidOperation, "the indent of tojson must be a number or a text"));
            }
        };
        let (mut item_separator, mut key_separator) =
            (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
        if !(separators.is_none() || separators.is_undefined()) {
            item_separator = separators.get_item_by_index(0)?.to_string();
            key_separator = separators.get_item_by_index(1)?.to_string();
        }
        Ok(Self { ensure_ascii, indent, item_separator, key_separator, sort_keys })
    }
}

fn write(out: &mut Paid<'_, '_, '_>, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    out.visit(depth)?;
    match value.kind() {
        ValueKind::None => out.push("null"),
        ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push(&number(value)),
        ValueKind::String => out.push(&quoted(value.as_str().unwrap_or_default(), style.ensure_ascii)),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut empty = true;
            out.push("[")?;
            for item in value.try_iter()? {
                begin_item(out, style, depth + 1, empty)?;
                empty = false;
                write(out, &item, style, depth + 1)?;
            }
            end(out, style, depth, empty, "]")
        }
        ValueKind::Map => {
            let mut keys: Vec<(String, Value)> =
                value.try_iter()?.map(|key| Ok((key_text(&key)?, key))).collect::<Result<_, Error>>()?;
            if style.sort_keys {
                keys.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            out.push("{")?;
            for (index, (text, key)) in keys.iter().enumerate() {
                begin_item(out, style, depth + 1, index == 0)?;
                out.push(&quoted(text, style.ensure_ascii))?;
                out.push(&style.key_separator)?;
                write(out, &value.get_item(key)?, style, depth + 1)?;
            }
            end(out, style, depth, keys.is_empty(), "}")
        }
        kind => Err(Error::new(ErrorKind::BadSerialization, format!("an {kind} value cannot be written as JSON"))),
    }
}

fn begin_item(out: &mut Paid<'_, '_, '_>, style: &Style, depth: usize, first: bool) -> Result<(), Error> {
    if !first {
        out.push(&style.item_separator)?;
    }
    new_line(out, style, depth)
}

fn end(out: &mut Paid<'_, '_, '_>, style: &Style, depth: usize, empty: bool, bracket: &str) -> Result<(), Error> {
    if !empty {
        new_line(out, style, depth)?;
    }
    out.push(bracket)
}

fn new_line(out: &mut Paid<'_, '_, '_>, style: &Style, depth: usize) -> Result<(), Error> {
    let Some(indent) = &style.indent else { return Ok(()) };
    out.push("\n")?;
    (0..depth).try_for_each(|_| out.push(indent))
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(number(key)),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        kind => Err(Error::new(ErrorKind::BadSerialization, format!("an {kind} value cannot be a JSON key"))),
    }
}

fn number(value: &Value) -> String {
    match python::number(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        finite => finite.to_owned(),
    }
}

fn quoted(text: &str, ensure_ascii: bool) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\0'..='\u{1f}' => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ if ensure_ascii && !character.is_ascii() => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    quoted.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
