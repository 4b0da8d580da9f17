//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity` are numbers, and of a repeated key the last one counts.
//!
//! A `serde_json::Value` holds finite numbers only, so the three literals become the tagged objects that transformers
//! itself writes for them: `{"__float__": "Infinity"}` (`PreTrainedConfig._encode_special_floats`).

use serde_json::{Map, Number, Value, json};

/// Key of the object that represents a number which JSON cannot.
pub(crate) const FLOAT_TAG: &str = "__float__";
/// Maximum nesting of objects and lists.
pub(crate) const NESTING_LIMIT: usize = 100;

/// Maximum of reported repeated keys; a hostile file may have millions.
const REPEATED_KEYS_LIMIT: usize = 16;

/// Why a text is not JSON.
#[derive(Debug, PartialEq)]
pub(crate) enum ParseError {
    /// A syntax error at a byte offset.
    Syntax { offset: usize, problem: String },
    /// Nested deeper than [`NESTING_LIMIT`].
    TooDeep,
}

/// A parsed text and the dotted keys that occurred more than once.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) repeated_keys: Vec<String>,
}

/// Parses a whole text.
pub(crate) fn parse(text: &str) -> Result<Parsed, ParseError> {
    let mut parser = Parser { text, offset: 0, path: Vec::new(), repeated_keys: Vec::new() };
    let value = parser.value()?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(Parsed { value, repeated_keys: parser.repeated_keys }),
        Some(_) => Err(parser.error("more text after the end of the value")),
    }
}

/// A number as a JSON value, tagged when it is not finite.
pub(crate) fn float_value(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => json!({ FLOAT_TAG: "NaN" }),
        None if number > 0.0 => json!({ FLOAT_TAG: "Infinity" }),
        None => json!({ FLOAT_TAG: "-Infinity" }),
    }
}

/// The number of a value, plain or tagged.
pub(crate) fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Object(map) if map.len() == 1 => match map.get(FLOAT_TAG)?.as_str()? {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Line and column (from 1, in characters) of a byte offset.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// Whether objects and lists are nested at most [`NESTING_LIMIT`] deep.
pub(crate) fn is_shallow(value: &Value) -> bool {
    fn within(value: &Value, levels: usize) -> bool {
        match value {
            Value::Array(items) => levels > 0 && items.iter().all(|item| within(item, levels - 1)),
            Value::Object(map) => levels > 0 && map.values().all(|item| within(item, levels - 1)),
            _ => true,
        }
    }
    within(value, NESTING_LIMIT)
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
    path: Vec<String>,
    repeated_keys: Vec<String>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.offset += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn eat(&mut self, literal: &str) -> bool {
        let found = self.rest().starts_with(literal);
        if found {
            self.offset += literal.len();
        }
        found
    }

    fn error(&self, problem: &str) -> ParseError {
        let found = match self.peek() {
            Some(character) => format!("{character:?}"),
            None => "the end of the text".to_owned(),
        };
        ParseError::Syntax { offset: self.offset, problem: format!("{problem} (found {found})") }
    }

    fn value(&mut self) -> Result<Value, ParseError> {
        self.skip_space();
        match self.peek() {
            Some('{') => self.object(),
            Some('[') => self.list(),
            Some('"') => Ok(Value::String(self.string()?)),
            Some('-' | '0'..='9') => self.number(),
            Some('t') if self.eat("true") => Ok(Value::Bool(true)),
            Some('f') if self.eat("false") => Ok(Value::Bool(false)),
            Some('n') if self.eat("null") => Ok(Value::Null),
            Some('N') if self.eat("NaN") => Ok(float_value(f64::NAN)),
            Some('I') if self.eat("Infinity") => Ok(float_value(f64::INFINITY)),
            _ => Err(self.error("expected a value")),
        }
    }

    fn descend(&mut self, key: String) -> Result<(), ParseError> {
        self.path.push(key);
        if self.path.len() > NESTING_LIMIT { Err(ParseError::TooDeep) } else { Ok(()) }
    }

    fn object(&mut self) -> Result<Value, ParseError> {
        self.eat("{");
        let mut map = Map::new();
        self.skip_space();
        if self.eat("}") {
            return Ok(Value::Object(map));
        }
        loop {
            self.skip_space();
            if self.peek() != Some('"') {
                return Err(self.error("expected a key in double quotes"));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.eat(":") {
                return Err(self.error("expected `:` after a key"));
            }
            self.descend(key.clone())?;
            let value = self.value()?;
            if map.contains_key(&key) && self.repeated_keys.len() < REPEATED_KEYS_LIMIT {
                self.repeated_keys.push(self.path.join("."));
            }
            self.path.pop();
            map.insert(key, value);
            self.skip_space();
            if self.eat("}") {
                return Ok(Value::Object(map));
            }
            if !self.eat(",") {
                return Err(self.error("expected `,` or `}` in an object"));
            }
        }
    }

    fn list(&mut self) -> Result<Value, ParseError> {
        self.eat("[");
        let mut items = Vec::new();
        self.skip_space();
        if self.eat("]") {
            return Ok(Value::Array(items));
        }
        loop {
            self.descend(items.len().to_string())?;
            items.push(self.value()?);
            self.path.pop();
            self.skip_space();
            if self.eat("]") {
                return Ok(Value::Array(items));
            }
            if !self.eat(",") {
                return Err(self.error("expected `,` or `]` in a list"));
            }
        }
    }

    fn string(&mut self) -> Result<String, ParseError> {
        let start = self.offset;
        let mut escaped = false;
        for (index, character) in self.rest().char_indices().skip(1) {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let end = start + index + 1;
                    let quoted = self.text.get(start..end).unwrap_or("");
                    self.offset = end;
                    return serde_json::from_str(quoted).map_err(|error| ParseError::Syntax {
                        offset: start,
                        problem: format!("a string cannot be read ({error})"),
                    });
                }
                _ => {}
            }
        }
        Err(self.error("unterminated string"))
    }

    fn number(&mut self) -> Result<Value, ParseError> {
        if self.eat("-Infinity") {
            return Ok(float_value(f64::NEG_INFINITY));
        }
        let rest = self.rest();
        let length = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let digits = rest.get(..length).unwrap_or("");
        if !is_number(digits) {
            return Err(self.error("not a number"));
        }
        let is_integer = !digits.contains(['.', 'e', 'E']);
        let value = match digits.parse::<Number>() {
            Ok(number) if is_integer => Value::Number(number),
            // The parser of the standard library rounds correctly, as Python does; that of serde_json may be off by one
            // unit, and refuses 1e400, which Python reads as infinity.
            _ => float_value(digits.parse().unwrap_or(f64::NAN)),
        };
        self.offset += length;
        Ok(value)
    }
}

/// The grammar of JSON, which is stricter than that of the standard library.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(text).map(|parsed| parsed.value).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn reads_the_literals_of_python() {
        let parsed = value(r#"{"a": [NaN, Infinity, -Infinity, 1e400, -1e400, {"__float__": "NaN"}]}"#);
        let items: Vec<f64> =
            parsed["a"].as_array().into_iter().flatten().map(|item| as_float(item).expect("a number")).collect();
        assert!(items[0].is_nan() && items[5].is_nan());
        assert_eq!(&items[1..5], &[f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY]);
    }

    #[test]
    fn strings_may_contain_the_literals() {
        assert_eq!(value(r#"["NaN", "-Infinity\" NaN", "\u00e9\\"]"#), json!(["NaN", "-Infinity\" NaN", "é\\"]));
    }

    #[test]
    fn the_last_of_repeated_keys_counts_and_is_reported() {
        let parsed = parse(r#"{"a": {"b": 1, "b": 2}, "c": 3, "c": 4}"#).expect("JSON");
        assert_eq!(parsed.value, json!({"a": {"b": 2}, "c": 4}));
        assert_eq!(parsed.repeated_keys, ["a.b", "c"]);
    }

    #[test]
    fn errors_point_at_the_place() {
        for (text, position) in [
            ("{\n  \"a\": tru\n}", (2, 8)),
            ("{\"é\": 1,}", (1, 9)),
            ("[1 2]", (1, 4)),
            ("", (1, 1)),
            ("{} x", (1, 4)),
            ("[01]", (1, 2)),
            ("[1.]", (1, 2)),
            ("[--1]", (1, 2)),
            ("[\"a", (1, 2)),
        ] {
            match parse(text).map(|parsed| parsed.value) {
                Err(ParseError::Syntax { offset, .. }) => assert_eq!(line_and_column(text, offset), position, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn numbers_are_those_of_python() {
        for (text, expected) in [("4.0879033814964316e+93", 4.0879033814964316e+93), ("1e-6", 1e-6), ("-0.5E+1", -5.0)]
        {
            assert_eq!(value(text).as_f64(), Some(expected));
        }
        assert_eq!(value("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(value("18446744073709551616").as_f64(), Some(18446744073709551616.0));
        for text in ["00", "1.", ".5", "+1", "1e", "1e+", "--1", "1-1", "0x1", "-", "1e5.0"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&deep(100_000)).is_err_and(|error| error == ParseError::TooDeep));
        assert!(parse(&deep(NESTING_LIMIT)).is_ok());
        assert!(is_shallow(&value(&deep(NESTING_LIMIT))));
    }
}
