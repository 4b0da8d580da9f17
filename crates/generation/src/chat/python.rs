//! Values as Python writes them: `str()`, `repr()`, and the text both write within a limit.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// How deep lists and objects may be nested when they are written.
const DEPTH_LIMIT: usize = 128;

/// A text that costs fuel while it grows, so that values that share their parts cannot grow it without end.
pub(super) struct Paid<'s, 'a, 'b> {
    text: String,
    charged: usize,
    state: &'s State<'a, 'b>,
}

impl<'s, 'a, 'b> Paid<'s, 'a, 'b> {
    pub(super) fn new(state: &'s State<'a, 'b>) -> Self {
        Self { text: String::new(), charged: 0, state }
    }

    pub(super) fn push(&mut self, piece: &str) -> Result<(), Error> {
        self.text.push_str(piece);
        // One unit for 64 bytes is what the engine itself charges.
        let units = (self.text.len() - self.charged) / 64;
        if units > 0 {
            self.charged += units * 64;
            self.state.consume_fuel(units as u64)?;
        }
        Ok(())
    }

    /// Pays for a look at a value at `depth`, which must not be too deep.
    pub(super) fn visit(&self, depth: usize) -> Result<(), Error> {
        if depth >= DEPTH_LIMIT {
            let detail = format!("a value is nested deeper than {DEPTH_LIMIT} levels");
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        }
        self.state.consume_fuel(1)
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// `str(value)`.
pub(super) fn str(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut out = Paid::new(state);
    match value.as_str() {
        Some(text) => out.push(text)?,
        None => repr(&mut out, value, 0)?,
    }
    Ok(out.finish())
}

fn repr(out: &mut Paid<'_, '_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    out.visit(depth)?;
    match value.kind() {
        ValueKind::String => out.push(&quoted(value.as_str().unwrap_or_default())),
        ValueKind::Number => out.push(&number(value)),
        ValueKind::Seq => {
            out.push(if value.is_tuple() { "(" } else { "[" })?;
            for (index, item) in value.try_iter()?.enumerate() {
                out.push(if index > 0 { ", " } else { "" })?;
                repr(out, &item, depth + 1)?;
            }
            out.push(match value.len() {
                _ if !value.is_tuple() => "]",
                Some(1) => ",)",
                _ => ")",
            })
        }
        ValueKind::Map => {
            out.push("{")?;
            for (index, key) in value.try_iter()?.enumerate() {
                out.push(if index > 0 { ", " } else { "" })?;
                repr(out, &key, depth + 1)?;
                out.push(": ")?;
                repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push("}")
        }
        _ => out.push(&value.to_string()),
    }
}

/// An integer, or a float as Python writes it.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => self::float(float),
        _ => value.to_string(),
    }
}

/// `repr(float)`: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
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
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if character == quote => quoted.extend(['\\', quote]),
            _ if is_printable(character) => quoted.push(character),
            _ => quoted.push_str(&match u32::from(character) {
                code @ 0..=0xff => format!("\\x{code:02x}"),
                code @ 0x100..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    quoted.push(quote);
    quoted
}

/// `str.isprintable`, but that unassigned characters count as printable.
fn is_printable(character: char) -> bool {
    let format = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let private = matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    character == ' ' || !(character.is_control() || character.is_whitespace() || format || private)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("'\"\n"), r#"'\'"\n'"#);
        assert_eq!(quoted("é\u{1}\u{200b}"), r"'é\x01\u200b'");
    }
}
