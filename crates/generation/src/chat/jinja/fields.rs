//! `'{0} {name!r:>8}'.format(..)`.

use super::args::Arguments;
use super::error::{Result, failed};
use super::interpreter::Interpreter;
use super::meter::MeteredString;
use super::spec::{self, Spec};
use super::text;
use super::value::{Value, shortened};
use std::sync::Arc;

/// Maximum nesting of fields in format specifications, as in Python.
const DEPTH: usize = 2;

struct Fields<'a> {
    arguments: &'a Arguments,
    /// Index of the next positional field.
    next: usize,
}

/// `format.format(arguments)`.
pub(super) fn format(interpreter: &mut Interpreter, format: &str, arguments: &Arguments) -> Result<String> {
    Fields { arguments, next: 0 }.write(interpreter, format, DEPTH)
}

impl Fields<'_> {
    fn write(&mut self, interpreter: &mut Interpreter, format: &str, depth: usize) -> Result<String> {
        if depth == 0 {
            return failed("fields of a format are nested too deeply");
        }
        let meter = interpreter.meter.clone();
        meter.bytes(format.len())?;
        let mut out = MeteredString::new(&meter);
        let mut rest = format;
        while let Some(start) = rest.find(['{', '}']) {
            out.push(&rest[..start])?;
            let bracket = &rest[start..=start];
            rest = &rest[start + 1..];
            if let Some(after) = rest.strip_prefix(bracket) {
                out.push(bracket)?;
                rest = after;
                continue;
            }
            if bracket == "}" {
                return failed("a format has a single `}`");
            }
            let Some(end) = end_of_field(rest) else { return failed("a field of a format has no end") };
            self.field(interpreter, &mut out, &rest[..end], depth)?;
            rest = &rest[end + 1..];
        }
        out.push(rest)?;
        Ok(out.finish())
    }

    fn field(
        &mut self,
        interpreter: &mut Interpreter,
        out: &mut MeteredString<'_>,
        field: &str,
        depth: usize,
    ) -> Result<()> {
        let meter = interpreter.meter.clone();
        meter.steps(1)?;
        let name_end = field.find(['!', ':']).unwrap_or(field.len());
        let (name, rest) = field.split_at(name_end);
        let (conversion, spec) = match rest.strip_prefix('!') {
            Some(rest) => rest.split_once(':').unwrap_or((rest, "")),
            None => ("", rest.strip_prefix(':').unwrap_or(rest)),
        };
        let value = self.value(interpreter, name)?;
        let value = match conversion {
            "" => value,
            "s" => Value::Str(text::str(&meter, &value)?),
            "r" | "a" => {
                let mut written = MeteredString::new(&meter);
                text::write_repr(&mut written, &meter, &value)?;
                Value::str(written.finish())
            }
            _ => return failed(format!("`!{}` in a format is neither `!s` nor `!r`", shortened(conversion))),
        };
        if spec.is_empty() {
            return text::write_str(out, &meter, &value);
        }
        let spec = self.write(interpreter, spec, depth - 1)?;
        Spec::parse(&spec)?.apply(out, &meter, &value)
    }

    /// `0`, `name`, each with `.attribute` and `[item]` after it.
    fn value(&mut self, interpreter: &mut Interpreter, name: &str) -> Result<Value> {
        interpreter.meter.steps(self.arguments.named.len() / 8)?;
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(end);
        let found = if first.is_empty() {
            self.next += 1;
            self.arguments.positional.get(self.next - 1)
        } else if let Some(index) = index(first) {
            self.arguments.positional.get(index)
        } else {
            self.arguments.get(first)
        };
        let Some(mut value) = found.cloned() else {
            return failed(format!("the format needs an argument for `{{{}}}`", shortened(first)));
        };
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                value = interpreter.attribute(&value, &Arc::from(&after[..end]))?;
                rest = &after[end..];
            } else {
                let Some((key, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
                    return failed(format!("the field `{}` is not valid", shortened(name)));
                };
                let key = index(key).map_or_else(|| Value::str(key), |index| Value::Int(index as i128));
                value = interpreter.item(&value, &key)?;
                rest = after;
            }
        }
        Ok(value)
    }
}

fn index(text: &str) -> Option<usize> {
    let mut rest = text;
    spec::number(&mut rest).ok().flatten().filter(|_| rest.is_empty())
}

/// Where the field that begins before `text` ends; fields may stand in its specification.
fn end_of_field(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (position, character) in text.char_indices() {
        match character {
            '{' => open += 1,
            '}' if open == 0 => return Some(position),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}
