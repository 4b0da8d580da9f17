//! `'%s: %5.1f' % (name, value)`.

use super::error::{Result, failed};
use super::meter::{Meter, MeteredString};
use super::spec::{self, Spec};
use super::text;
use super::value::{SeqKind, Value};

/// The values of a format: the items of a tuple, or a single value.
struct Values<'v> {
    all: &'v [Value],
    next: usize,
    object: Option<&'v super::value::Dict>,
}

impl<'v> Values<'v> {
    fn next(&mut self) -> Result<&'v Value> {
        self.next += 1;
        match self.all.get(self.next - 1) {
            Some(value) => Ok(value),
            None => failed("not enough arguments for the format"),
        }
    }

    fn next_size(&mut self) -> Result<i128> {
        let value = self.next()?;
        value.as_int().map_or_else(|| failed("`*` in a format needs an integer"), Ok)
    }
}

/// `format % value`.
pub(super) fn format(meter: &Meter, format: &str, value: &Value) -> Result<String> {
    let mut values = match value {
        Value::Seq(seq) if matches!(seq.kind, SeqKind::Tuple) => Values { all: &seq.items, next: 0, object: None },
        Value::Dict(dict) => Values { all: std::slice::from_ref(value), next: 0, object: Some(dict) },
        _ => Values { all: std::slice::from_ref(value), next: 0, object: None },
    };
    meter.bytes(format.len())?;
    let mut out = MeteredString::new(meter);
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        out.push(&rest[..start])?;
        rest = &rest[start + 1..];
        meter.steps(1)?;
        field(&mut out, meter, &mut rest, &mut values)?;
    }
    out.push(rest)?;
    if values.next < values.all.len() && values.object.is_none() {
        return failed("not all arguments were used by the format");
    }
    Ok(out.finish())
}

/// One field, after its `%`.
fn field(out: &mut MeteredString<'_>, meter: &Meter, rest: &mut &str, values: &mut Values<'_>) -> Result<()> {
    let mut named = None;
    if let Some(after) = rest.strip_prefix('(') {
        let Some(end) = after.find(')') else { return failed("a name in a format has no end") };
        let Some(object) = values.object else { return failed("a format with names needs a mapping") };
        let Some(value) = object.get_str(meter, &after[..end])? else {
            return failed(format!("the format needs `{}`", super::value::shortened(&after[..end])));
        };
        named = Some(value);
        *rest = &after[end + 1..];
    }
    let mut spec = Spec { align: Some('>'), ..Spec::default() };
    let flags = rest.find(|character| !matches!(character, '#' | '0' | '-' | ' ' | '+')).unwrap_or(rest.len());
    for flag in rest[..flags].chars() {
        match flag {
            '#' => spec.alternate = true,
            '0' => spec.zero = true,
            '-' => spec.align = Some('<'),
            ' ' => spec.sign = spec.sign.or(Some(' ')),
            _ => spec.sign = Some('+'),
        }
    }
    *rest = &rest[flags..];
    if let Some(width) = size(rest, values)? {
        if width < 0 {
            spec.align = Some('<');
        }
        spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    }
    if let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        let precision = size(rest, values)?.unwrap_or(0);
        spec.precision = Some(usize::try_from(precision.max(0)).unwrap_or(usize::MAX));
    }
    *rest = rest.trim_start_matches(['h', 'l', 'L']);
    let Some(kind) = rest.chars().next() else { return failed("a format ends within a field") };
    *rest = &rest[kind.len_utf8()..];
    if kind == '%' {
        return out.push("%");
    }
    let value = match named {
        Some(value) => value,
        None => values.next()?,
    };
    write(out, meter, spec, kind, value)
}

fn size(rest: &mut &str, values: &mut Values<'_>) -> Result<Option<i128>> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        return values.next_size().map(Some);
    }
    Ok(spec::number(rest)?.map(|number| number as i128))
}

fn write(out: &mut MeteredString<'_>, meter: &Meter, mut spec: Spec, kind: char, value: &Value) -> Result<()> {
    let needs_number = || failed(format!("`%{kind}` needs a number, not '{}'", value.type_name()));
    match kind {
        's' => {
            spec.zero = false;
            spec.write_text(out, &text::str(meter, value)?)
        }
        'r' | 'a' => {
            let mut written = MeteredString::new(meter);
            text::write_repr(&mut written, meter, value)?;
            spec.zero = false;
            spec.write_text(out, &written.finish())
        }
        'd' | 'i' | 'u' | 'o' | 'x' | 'X' => {
            // `%d` truncates a float, the others refuse it.
            let cut = value.as_float().filter(|float| float.is_finite() && !matches!(kind, 'o' | 'x' | 'X'));
            let Some(integer) = value.as_int().or(cut.map(|float| float as i128)) else { return needs_number() };
            spec.kind = Some(if matches!(kind, 'i' | 'u') { 'd' } else { kind });
            numeric(&mut spec);
            // A precision is a minimum of digits.
            let digits = spec.precision.take().unwrap_or(0);
            if digits > 0 {
                meter.bytes(digits)?;
                let padded =
                    format!("{:0>digits$}", integer.unsigned_abs(), digits = digits.min(usize::from(u16::MAX)));
                let sign = if integer < 0 { "-" } else { "" };
                return Spec { zero: false, kind: None, ..spec }.write_text(out, &format!("{sign}{padded}"));
            }
            spec.write_integer(out, integer)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let Some(float) = value.as_float() else { return needs_number() };
            spec.kind = Some(kind);
            numeric(&mut spec);
            spec.write_float(out, meter, float)
        }
        'c' => match value {
            Value::Str(text) if text.chars().count() == 1 => spec.write_text(out, text),
            _ => match value.as_int() {
                Some(integer) => Spec { kind: Some('c'), ..spec }.write_integer(out, integer),
                None => failed("`%c` needs a character"),
            },
        },
        _ => failed(format!("`%{kind}` is not a format")),
    }
}

/// Zeros go between sign and digits, unless the number is left-aligned.
fn numeric(spec: &mut Spec) {
    if spec.zero && spec.align == Some('>') {
        spec.align = None;
    }
    if spec.align == Some('<') {
        spec.zero = false;
    }
}
