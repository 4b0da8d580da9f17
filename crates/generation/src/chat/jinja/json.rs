//! The filter `tojson`, which in transformers is Python's `json.dumps(x, ensure_ascii=False, ..)`.

use super::args::Arguments;
use super::error::{Result, failed};
use super::meter::{Meter, MeteredString};
use super::text;
use super::value::{SeqKind, Value};

struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// `x | tojson(ensure_ascii, indent, separators, sort_keys)`.
pub(super) fn tojson(meter: &Meter, value: &Value, arguments: Arguments) -> Result<Value> {
    let [ensure_ascii, indent, separators, sort_keys] =
        arguments.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"], 0)?;
    let style = Style::new(
        meter,
        super::args::flag(&ensure_ascii),
        &indent.unwrap_or(Value::None),
        &separators.unwrap_or(Value::None),
        super::args::flag(&sort_keys),
    )?;
    let mut out = MeteredString::new(meter);
    write(&mut out, meter, value, &style, 0)?;
    Ok(Value::str(out.finish()))
}

impl Style {
    fn new(meter: &Meter, ensure_ascii: bool, indent: &Value, separators: &Value, sort_keys: bool) -> Result<Self> {
        let indent = match (indent, indent.as_int()) {
            (Value::None, _) => None,
            (Value::Str(text), _) => Some(text.to_string()),
            (_, Some(width)) => {
                let mut blanks = MeteredString::new(meter);
                blanks.repeat(" ", usize::try_from(width.max(0)).unwrap_or(usize::MAX))?;
                Some(blanks.finish())
            }
            _ => return failed("the indent of `tojson` must be a number or a string"),
        };
        let (mut item_separator, mut key_separator) =
            (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
        if !matches!(separators, Value::None) {
            let separators = separators.iterate(meter)?;
            let [Value::Str(item), Value::Str(key)] = &separators[..] else {
                return failed("the separators of `tojson` must be two strings");
            };
            (item_separator, key_separator) = (item.to_string(), key.to_string());
        }
        Ok(Self { ensure_ascii, indent, item_separator, key_separator, sort_keys })
    }
}

fn write(out: &mut MeteredString<'_>, meter: &Meter, value: &Value, style: &Style, depth: usize) -> Result<()> {
    meter.steps(1)?;
    match value {
        Value::Str(text) => write_quoted(out, text, style.ensure_ascii),
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            out.push("[")?;
            for (index, item) in seq.items.iter().enumerate() {
                begin_item(out, style, depth + 1, index == 0)?;
                write(out, meter, item, style, depth + 1)?;
            }
            end(out, style, depth, seq.items.is_empty(), "]")
        }
        Value::Dict(dict) => {
            let mut entries = Vec::new();
            for (key, value) in dict.entries() {
                meter.slots(2)?;
                entries.push((key_text(key)?, value));
            }
            if style.sort_keys {
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            out.push("{")?;
            for (index, (key, value)) in entries.iter().enumerate() {
                begin_item(out, style, depth + 1, index == 0)?;
                write_quoted(out, key, style.ensure_ascii)?;
                out.push(&style.key_separator)?;
                write(out, meter, value, style, depth + 1)?;
            }
            end(out, style, depth, entries.is_empty(), "}")
        }
        _ => out.push(&scalar(value)?),
    }
}

fn begin_item(out: &mut MeteredString<'_>, style: &Style, depth: usize, first: bool) -> Result<()> {
    if !first {
        out.push(&style.item_separator)?;
    }
    new_line(out, style, depth)
}

fn end(out: &mut MeteredString<'_>, style: &Style, depth: usize, empty: bool, bracket: &str) -> Result<()> {
    if !empty {
        new_line(out, style, depth)?;
    }
    out.push(bracket)
}

fn new_line(out: &mut MeteredString<'_>, style: &Style, depth: usize) -> Result<()> {
    let Some(indent) = &style.indent else { return Ok(()) };
    out.push("\n")?;
    out.repeat(indent, depth)
}

fn key_text(key: &Value) -> Result<String> {
    match key {
        Value::Str(text) => Ok(text.to_string()),
        _ => scalar(key),
    }
}

fn scalar(value: &Value) -> Result<String> {
    Ok(match value {
        Value::None => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => match text::float(*value).as_str() {
            "nan" => "NaN".to_owned(),
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            finite => finite.to_owned(),
        },
        _ => {
            value.check_defined()?;
            return failed(format!("a value of type '{}' cannot be written as JSON", value.type_name()));
        }
    })
}

fn write_quoted(out: &mut MeteredString<'_>, text: &str, ensure_ascii: bool) -> Result<()> {
    out.push("\"")?;
    let special = |character: char| {
        matches!(character, '"' | '\\' | '\0'..='\u{1f}') || (ensure_ascii && !(' '..='~').contains(&character))
    };
    let mut rest = text;
    while let Some(position) = rest.find(special) {
        out.push(&rest[..position])?;
        let Some(character) = rest[position..].chars().next() else { break };
        rest = &rest[position + character.len_utf8()..];
        match character {
            '"' => out.push("\\\"")?,
            '\\' => out.push("\\\\")?,
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            '\u{8}' => out.push("\\b")?,
            '\u{c}' => out.push("\\f")?,
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push(&format!("\\u{unit:04x}"))?;
                }
            }
        }
    }
    out.push(rest)?;
    out.push("\"")
}
