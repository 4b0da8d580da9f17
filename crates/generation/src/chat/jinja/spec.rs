//! Python's format specifications: `{:>8.2f}`, and in the syntax of `%` `%8.2f`.

use super::error::{Result, failed};
use super::meter::{Meter, MeteredString};
use super::text;
use super::value::Value;

/// Maximum of digits after the point of a float; more are zeros.
const MAX_DIGITS: usize = 1100;

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    pub(super) fill: Option<char>,
    pub(super) align: Option<char>,
    /// `+` or a space before non-negative numbers.
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) zero: bool,
    pub(super) width: usize,
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
    pub(super) kind: Option<char>,
}

impl Spec {
    pub(super) fn parse(source: &str) -> Result<Self> {
        let is_align = |character: &char| matches!(character, '<' | '>' | '^' | '=');
        let mut spec = Self::default();
        let mut rest = source;
        let mut characters = rest.chars();
        match (characters.next(), characters.next().filter(is_align)) {
            (Some(fill), Some(align)) => {
                (spec.fill, spec.align) = (Some(fill), Some(align));
                rest = characters.as_str();
            }
            (Some(align), None) if is_align(&align) => {
                spec.align = Some(align);
                rest = &rest[1..];
            }
            _ => {}
        }
        if let Some(after) = rest.strip_prefix(['+', '-', ' ']) {
            spec.sign = rest.chars().next().filter(|sign| *sign != '-');
            rest = after;
        }
        spec.alternate = skip(&mut rest, '#');
        spec.zero = skip(&mut rest, '0');
        spec.width = number(&mut rest)?.unwrap_or(0);
        for grouping in [',', '_'] {
            if skip(&mut rest, grouping) {
                spec.grouping = Some(grouping);
            }
        }
        if skip(&mut rest, '.') {
            spec.precision = number(&mut rest)?;
            if spec.precision.is_none() {
                return failed("a format has a point without a precision");
            }
        }
        let mut kind = rest.chars();
        spec.kind = kind.next();
        if !kind.as_str().is_empty() {
            return failed(format!("invalid format `{}`", super::value::shortened(source)));
        }
        Ok(spec)
    }

    /// `format(value, spec)`.
    pub(super) fn apply(&self, out: &mut MeteredString<'_>, meter: &Meter, value: &Value) -> Result<()> {
        match (value, self.kind) {
            (Value::Str(text), None | Some('s')) => self.write_text(out, text),
            (Value::Int(_) | Value::Bool(_), None | Some('d' | 'n' | 'b' | 'o' | 'x' | 'X' | 'c')) => {
                self.write_integer(out, value.as_int().unwrap_or_default())
            }
            (
                Value::Int(_) | Value::Bool(_) | Value::Float(_),
                None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%'),
            ) => self.write_float(out, meter, value.as_float().unwrap_or_default()),
            (_, Some(kind)) => failed(format!("'{}' cannot be formatted as `{kind}`", value.type_name())),
            (_, None) => failed(format!("'{}' cannot be formatted with a width", value.type_name())),
        }
    }

    pub(super) fn write_text(&self, out: &mut MeteredString<'_>, text: &str) -> Result<()> {
        let kept = match self.precision.and_then(|precision| text.char_indices().nth(precision)) {
            Some((end, _)) => &text[..end],
            None => text,
        };
        self.pad(out, "", kept, '<')
    }

    pub(super) fn write_integer(&self, out: &mut MeteredString<'_>, value: i128) -> Result<()> {
        let size = value.unsigned_abs();
        let (prefix, digits) = match self.kind {
            Some('b') => ("0b", format!("{size:b}")),
            Some('o') => ("0o", format!("{size:o}")),
            Some('x') => ("0x", format!("{size:x}")),
            Some('X') => ("0X", format!("{size:X}")),
            Some('c') => match u32::try_from(value).ok().and_then(char::from_u32) {
                Some(character) => return self.pad(out, "", character.encode_utf8(&mut [0; 4]), '<'),
                None => return failed(format!("{value} is not a character")),
            },
            _ => ("", size.to_string()),
        };
        let prefix = if self.alternate { prefix } else { "" };
        self.pad(out, &format!("{}{prefix}", self.sign_of(value < 0)), &self.grouped(&digits), '>')
    }

    pub(super) fn write_float(&self, out: &mut MeteredString<'_>, meter: &Meter, value: f64) -> Result<()> {
        let precision = self.precision;
        meter.bytes(precision.unwrap_or(0).saturating_mul(2))?;
        let size = value.abs();
        let mut body = if !value.is_finite() {
            text::float(size)
        } else {
            match self.kind.unwrap_or(' ').to_ascii_lowercase() {
                'e' => exponential(size, precision.unwrap_or(6)),
                'f' => fixed(size, precision.unwrap_or(6)),
                '%' => fixed(size * 100.0, precision.unwrap_or(6)) + "%",
                'g' | 'n' => general(size, precision.unwrap_or(6), self.alternate),
                _ => match precision {
                    None => text::float(size),
                    Some(precision) => {
                        let body = general(size, precision, false);
                        if body.contains(['.', 'e']) { body } else { body + ".0" }
                    }
                },
            }
        };
        if self.kind.is_some_and(|kind| kind.is_ascii_uppercase()) {
            body.make_ascii_uppercase();
        }
        self.pad(out, self.sign_of(value.is_sign_negative() && !value.is_nan()), &self.grouped(&body), '>')
    }

    fn sign_of(&self, negative: bool) -> &'static str {
        match self.sign {
            _ if negative => "-",
            Some('+') => "+",
            Some(_) => " ",
            None => "",
        }
    }

    /// With a separator after each three digits before the point.
    fn grouped(&self, digits: &str) -> String {
        let Some(separator) = self.grouping else { return digits.to_owned() };
        let whole = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
        let mut grouped = String::new();
        for (index, digit) in digits[..whole].char_indices() {
            if index > 0 && (whole - index).is_multiple_of(3) {
                grouped.push(separator);
            }
            grouped.push(digit);
        }
        grouped + &digits[whole..]
    }

    fn pad(&self, out: &mut MeteredString<'_>, sign: &str, body: &str, default_align: char) -> Result<()> {
        let missing = self.width.saturating_sub(sign.chars().count() + body.chars().count());
        let zero = self.zero && self.fill.is_none();
        let fill = self.fill.unwrap_or(if zero { '0' } else { ' ' });
        let align = self.align.unwrap_or(if zero && default_align == '>' { '=' } else { default_align });
        let (before, between, after) = match align {
            '<' => (0, 0, missing),
            '^' => (missing / 2, 0, missing - missing / 2),
            '=' => (0, missing, 0),
            _ => (missing, 0, 0),
        };
        let fill = fill.encode_utf8(&mut [0; 4]).to_owned();
        out.repeat(&fill, before)?;
        out.push(sign)?;
        out.repeat(&fill, between)?;
        out.push(body)?;
        out.repeat(&fill, after)
    }
}

fn skip(rest: &mut &str, character: char) -> bool {
    let after = rest.strip_prefix(character);
    *rest = after.unwrap_or(rest);
    after.is_some()
}

/// A number at the beginning of `rest`, if any.
pub(super) fn number(rest: &mut &str) -> Result<Option<usize>> {
    let length = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(length);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    digits.parse().map_or_else(|_| failed("a number in a format is too large"), |number| Ok(Some(number)))
}

fn fixed(value: f64, precision: usize) -> String {
    let mut body = format!("{value:.*}", precision.min(MAX_DIGITS));
    body.extend(std::iter::repeat_n('0', precision.saturating_sub(MAX_DIGITS)));
    body
}

fn exponential(value: f64, precision: usize) -> String {
    let scientific = format!("{value:.*e}", precision.min(MAX_DIGITS));
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let zeros = "0".repeat(precision.saturating_sub(MAX_DIGITS));
    format!("{digits}{zeros}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%g`: `precision` digits in all, without trailing zeros unless `keep_zeros`.
fn general(value: f64, precision: usize, keep_zeros: bool) -> String {
    let precision = precision.clamp(1, MAX_DIGITS);
    let scientific = exponential(value, precision - 1);
    let exponent: i64 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let without_zeros = |digits: &str| match digits.contains('.') && !keep_zeros {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if (-4..precision as i64).contains(&exponent) {
        return without_zeros(&fixed(value, (precision as i64 - 1 - exponent) as usize));
    }
    match scientific.split_once('e') {
        Some((digits, exponent)) => format!("{}e{exponent}", without_zeros(digits)),
        None => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn format(spec: &str, value: Value) -> String {
        let meter = Meter::new(1000, Duration::from_secs(60));
        let mut out = MeteredString::new(&meter);
        Spec::parse(spec).unwrap().apply(&mut out, &meter, &value).unwrap();
        out.finish()
    }

    #[test]
    fn numbers_and_strings_are_formatted_as_in_python() {
        let cases = [
            (">6", Value::str("ab"), "    ab"),
            ("*^7", Value::str("ab"), "**ab***"),
            (".1", Value::str("éa"), "é"),
            ("05", Value::Int(-42), "-0042"),
            ("+,", Value::Int(1234567), "+1,234,567"),
            ("#x", Value::Int(255), "0xff"),
            ("08.3f", Value::Float(-3.25159), "-003.252"),
            (".2e", Value::Float(12345.678), "1.23e+04"),
            ("g", Value::Float(1e-5), "1e-05"),
            ("g", Value::Float(123456789.0), "1.23457e+08"),
            (".3", Value::Float(2.0), "2.0"),
            (".1%", Value::Float(0.256), "25.6%"),
            ("", Value::Float(1e16), "1e+16"),
            ("<6", Value::Bool(true), "1     "),
        ];
        for (spec, value, expected) in cases {
            assert_eq!(format(spec, value), expected, "{spec}");
        }
    }

    #[test]
    fn widths_are_charged() {
        let meter = Meter::new(1000, Duration::from_secs(60));
        for (spec, value) in
            [("1000000000", Value::Int(1)), (".1000000000f", Value::Float(1.0)), ("<99999999", Value::str("a"))]
        {
            assert!(
                Spec::parse(spec).unwrap().apply(&mut MeteredString::new(&meter), &meter, &value).is_err(),
                "{spec}"
            );
        }
    }
}
