//! The filters of Jinja: `x | upper`.

mod order;
mod sequences;
mod strings;

use super::args::{self, Arguments};
use super::error::{Result, failed};
use super::eval::unknown;
use super::interpreter::Interpreter;
use super::value::Value;
use super::{json, text};

const NAMES: [&str; 45] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
];

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || matches!(name, "urlencode" | "wordcount")
}

/// `value | name(arguments)`.
pub(super) fn apply(interpreter: &mut Interpreter, name: &str, value: Value, arguments: Arguments) -> Result<Value> {
    let meter = interpreter.meter.clone();
    match name {
        "capitalize" | "center" | "e" | "escape" | "forceescape" | "format" | "indent" | "lower" | "replace"
        | "title" | "trim" | "truncate" | "upper" | "urlencode" | "wordcount" => {
            strings::apply(interpreter, name, &value, arguments)
        }
        "batch" | "first" | "items" | "join" | "last" | "list" | "map" | "reject" | "rejectattr" | "reverse"
        | "select" | "selectattr" | "slice" | "sum" => sequences::apply(interpreter, name, &value, arguments),
        "dictsort" | "groupby" | "max" | "min" | "sort" | "unique" => {
            order::apply(interpreter, name, &value, arguments)
        }
        "tojson" => json::tojson(&meter, &value, arguments),
        "default" | "d" => {
            let [default, boolean] = arguments.bind(name, ["default_value", "boolean"], 0)?;
            let missing = value.is_undefined() || (args::flag(&boolean) && !value.is_true());
            Ok(if missing { default.unwrap_or_else(|| Value::str("")) } else { value })
        }
        "round" => {
            let [precision, method] = arguments.bind(name, ["precision", "method"], 0)?;
            let precision = args::optional_int(name, &precision)?.unwrap_or(0);
            rounded(&value, precision, args::optional_string(name, &method)?.unwrap_or("common"))
        }
        "int" => {
            let [default, base] = arguments.bind(name, ["default", "base"], 0)?;
            let base = args::optional_int(name, &base)?.unwrap_or(10);
            integer(&value, base)?.or(default).map_or(Ok(Value::Int(0)), Ok)
        }
        "float" => {
            value.check_defined()?;
            let [default] = arguments.bind(name, ["default"], 0)?;
            let float = match &value {
                Value::Str(text) => parsed_float(text),
                _ => value.as_float(),
            };
            Ok(float.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        "attr" => {
            let [attribute] = arguments.bind(name, ["name"], 1)?;
            match attribute {
                // An attribute in Python's sense: mappings have only methods.
                Some(Value::Str(name)) if !matches!(value, Value::Dict(_)) => interpreter.attribute(&value, &name),
                _ => Ok(Value::UNDEFINED),
            }
        }
        _ => {
            if !matches!(name, "abs" | "count" | "length" | "safe" | "string") {
                return unknown("filter", name);
            }
            let [] = arguments.bind(name, [], 0)?;
            match name {
                "abs" => magnitude(&value),
                "count" | "length" => Ok(Value::Int(value.len(&meter)? as i128)),
                "safe" => Ok(Value::Safe(text::str(&meter, &value)?)),
                _ => Ok(Value::Str(text::str(&meter, &value)?)),
            }
        }
    }
}

fn magnitude(value: &Value) -> Result<Value> {
    value.check_defined()?;
    match (value, value.as_int()) {
        (Value::Float(float), _) => Ok(Value::Float(float.abs())),
        (_, Some(integer)) if integer != i128::MIN => Ok(Value::Int(integer.abs())),
        _ => failed(format!("'{}' has no absolute value", value.type_name())),
    }
}

fn rounded(value: &Value, precision: i128, method: &str) -> Result<Value> {
    value.check_defined()?;
    // Doubles have no more digits than this on either side of the point.
    let precision = precision.clamp(-300, 400) as i32;
    let Some(float) = value.as_float() else {
        return failed(format!("'{}' cannot be rounded", value.type_name()));
    };
    let factor = 10f64.powi(precision);
    match (method, value) {
        ("common", Value::Int(integer)) if precision >= 0 => Ok(Value::Int(*integer)),
        ("common", _) if precision >= 0 => {
            // The decimal digits of the double are rounded, halves to even ones, as Python does.
            Ok(Value::Float(format!("{float:.*}", precision as usize).parse().unwrap_or(float)))
        }
        ("common", _) => Ok(Value::Float((float * factor).round_ties_even() / factor)),
        ("ceil", _) => Ok(Value::Float((float * factor).ceil() / factor)),
        ("floor", _) => Ok(Value::Float((float * factor).floor() / factor)),
        _ => failed("the method of `round` must be common, ceil or floor"),
    }
}

/// `int(value, base)`, or `int(float(value))`.
fn integer(value: &Value, base: i128) -> Result<Option<Value>> {
    value.check_defined()?;
    let Value::Str(text) = value else {
        let cut = value.as_float().filter(|float| float.is_finite()).map(|float| float as i128);
        return Ok(value.as_int().or(cut).map(Value::Int));
    };
    let plain = text.trim_matches(text::is_space).replace('_', "");
    let (negative, digits) = match plain.strip_prefix(['-', '+']) {
        Some(digits) => (plain.starts_with('-'), digits),
        None => (false, plain.as_str()),
    };
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    let digits = digits.strip_prefix(prefix).unwrap_or(digits);
    let radix = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
    let signed = digits.starts_with(['-', '+']);
    let parsed = radix.filter(|_| !signed).and_then(|radix| i128::from_str_radix(digits, radix).ok());
    let cut = || parsed_float(text).filter(|float| float.is_finite()).map(|float| float as i128);
    Ok(parsed.map(|size| if negative { -size } else { size }).or_else(cut).map(Value::Int))
}

fn parsed_float(text: &str) -> Option<f64> {
    text.trim_matches(text::is_space).replace('_', "").parse().ok()
}
