//! Python's `str()` and `repr()`.

use super::error::Result;
use super::meter::{Meter, MeteredString};
use super::value::{SeqKind, Value};
use std::sync::Arc;

/// `str.isspace` of one character.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// `str.islower`.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// `str.isupper`.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// `str(value)`.
pub(super) fn str(meter: &Meter, value: &Value) -> Result<Arc<str>> {
    if let Value::Str(text) | Value::Safe(text) = value {
        return Ok(text.clone());
    }
    let mut out = MeteredString::new(meter);
    write_str(&mut out, meter, value)?;
    Ok(out.finish().into())
}

/// Writes `str(value)`.
pub(super) fn write_str(out: &mut MeteredString<'_>, meter: &Meter, value: &Value) -> Result<()> {
    match value {
        Value::Str(text) | Value::Safe(text) => out.push(text),
        Value::Undefined(_) => Ok(()),
        _ => write_repr(out, meter, value),
    }
}

/// Writes `repr(value)`.
pub(super) fn write_repr(out: &mut MeteredString<'_>, meter: &Meter, value: &Value) -> Result<()> {
    meter.steps(1)?;
    match value {
        Value::Undefined(_) => out.push("Undefined"),
        Value::None => out.push("None"),
        Value::Bool(value) => out.push(if *value { "True" } else { "False" }),
        Value::Int(value) => out.push(&value.to_string()),
        Value::Float(value) => out.push(&float(*value)),
        Value::Str(text) | Value::Safe(text) => write_quoted(out, text),
        Value::Seq(seq) => match &seq.kind {
            SeqKind::List => write_items(out, meter, ["[", "]"], &seq.items),
            SeqKind::Tuple if seq.items.len() == 1 => write_items(out, meter, ["(", ",)"], &seq.items),
            SeqKind::Tuple => write_items(out, meter, ["(", ")"], &seq.items),
            SeqKind::Range { start, stop, step: 1 } => out.push(&format!("range({start}, {stop})")),
            SeqKind::Range { start, stop, step } => out.push(&format!("range({start}, {stop}, {step})")),
            SeqKind::View(name) => {
                out.push(name)?;
                write_items(out, meter, ["([", "])"], &seq.items)
            }
            SeqKind::Generator { .. } => out.push("<generator object>"),
        },
        Value::Dict(dict) => {
            out.push("{")?;
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                out.push(if index > 0 { ", " } else { "" })?;
                write_repr(out, meter, key)?;
                out.push(": ")?;
                write_repr(out, meter, value)?;
            }
            out.push("}")
        }
        _ => out.push(&format!("<{}>", value.type_name())),
    }
}

fn write_items(out: &mut MeteredString<'_>, meter: &Meter, brackets: [&str; 2], items: &[Value]) -> Result<()> {
    out.push(brackets[0])?;
    for (index, item) in items.iter().enumerate() {
        out.push(if index > 0 { ", " } else { "" })?;
        write_repr(out, meter, item)?;
    }
    out.push(brackets[1])
}

/// `repr(float)`: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value:?}")
}

/// `repr(str)`.
fn write_quoted(out: &mut MeteredString<'_>, text: &str) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push_char(quote)?;
    let mut rest = text;
    while let Some(position) =
        rest.find(|character| character == '\\' || character == quote || !is_printable(character))
    {
        out.push(&rest[..position])?;
        let Some(character) = rest[position..].chars().next() else { break };
        rest = &rest[position + character.len_utf8()..];
        match character {
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            '\\' | '\'' | '"' => {
                out.push("\\")?;
                out.push_char(character)?;
            }
            _ => out.push(&match u32::from(character) {
                code @ 0..=0xff => format!("\\x{code:02x}"),
                code @ 0x100..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            })?,
        }
    }
    out.push(rest)?;
    out.push_char(quote)
}

/// With the special characters of HTML written as entities.
pub(super) fn escaped(meter: &Meter, text: &str) -> Result<String> {
    let mut escaped = MeteredString::new(meter);
    let mut rest = text;
    while let Some(position) = rest.find(['&', '<', '>', '\'', '"']) {
        escaped.push(&rest[..position])?;
        escaped.push(match rest.as_bytes()[position] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&#34;",
            _ => "&#39;",
        })?;
        rest = &rest[position + 1..];
    }
    escaped.push(rest)?;
    Ok(escaped.finish())
}

/// `str.isprintable`, except that unassigned characters count as printable.
pub(super) fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let format = matches!(
        character,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    let private = matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    !(character.is_control() || character.is_whitespace() || format || private)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn floats_read_as_in_python() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (123456789012345.0, "123456789012345.0"),
            (1e-4, "0.0001"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn strings_are_quoted_as_in_python() {
        let meter = Meter::new(1000, Duration::from_secs(60));
        for (text, expected) in [("it's", "\"it's\""), ("'\"\n", r#"'\'"\n'"#), ("é\u{1}\u{200b}", r"'é\x01\u200b'")]
        {
            let mut out = MeteredString::new(&meter);
            write_quoted(&mut out, text).unwrap();
            assert_eq!(out.finish(), expected);
        }
    }
}
