//! The tests of Jinja: `x is string`.

use super::args::Arguments;
use super::ast::Comparison;
use super::error::Result;
use super::eval::unknown;
use super::interpreter::Interpreter;
use super::ops;
use super::value::Value;
use super::{ast, filters, text};

const NAMES: [&str; 39] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
];

/// `value is name(arguments)`.
pub(super) fn check(interpreter: &mut Interpreter, name: &str, value: &Value, arguments: Arguments) -> Result<bool> {
    let meter = interpreter.meter.clone();
    if let Some(comparison) = comparison(name) {
        let [other] = arguments.bind(name, ["other"], 1)?;
        return interpreter.holds(comparison, value, &other.unwrap_or(Value::UNDEFINED));
    }
    if matches!(name, "divisibleby" | "sameas") {
        let [other] = arguments.bind(name, ["other"], 1)?;
        let other = other.unwrap_or(Value::UNDEFINED);
        return match name {
            "divisibleby" => Ok(!ops::arithmetic(&meter, ast::Operator::Mod, value.clone(), other)?.is_true()),
            _ => Ok(value.type_name() == other.type_name() && ops::equal(&meter, value, &other)?),
        };
    }
    let [] = arguments.bind(name, [], 0)?;
    Ok(match name {
        "odd" | "even" => {
            let rest = ops::arithmetic(&meter, ast::Operator::Mod, value.clone(), Value::Int(2))?;
            ops::equal(&meter, &rest, &Value::Int(i128::from(name == "odd")))?
        }
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => value.as_str().is_some_and(filters::is_known),
        "test" => value.as_str().is_some_and(is_known),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "lower" => text::is_lower(&text::str(&meter, value)?),
        "upper" => text::is_upper(&text::str(&meter, value)?),
        "sequence" => match value {
            Value::Undefined(_) | Value::Str(_) | Value::Dict(_) => true,
            Value::Seq(seq) => seq.is_indexed(),
            _ => false,
        },
        "iterable" => {
            matches!(value, Value::Undefined(_) | Value::Str(_) | Value::Dict(_) | Value::Seq(_) | Value::Loop(_))
        }
        "callable" => {
            matches!(
                value,
                Value::Undefined(_) | Value::Function(_) | Value::Macro(_) | Value::Method(_) | Value::Loop(_)
            )
        }
        // Nothing is escaped in a prompt.
        "escaped" => false,
        _ => return unknown("test", name),
    })
}

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "eq" | "equalto" | "==" => Comparison::Eq,
        "ne" | "!=" => Comparison::Ne,
        "gt" | "greaterthan" | ">" => Comparison::Gt,
        "ge" | ">=" => Comparison::Ge,
        "lt" | "lessthan" | "<" => Comparison::Lt,
        "le" | "<=" => Comparison::Le,
        "in" => Comparison::In,
        _ => return None,
    })
}
