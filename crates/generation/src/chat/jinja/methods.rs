//! The methods of Python's dicts, lists and numbers.

use super::args::{self, Arguments};
use super::error::{Result, failed};
use super::interpreter::Interpreter;
use super::value::{SeqKind, Value};
use super::{functions, ops, string_methods};

const DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const LIST: [&str; 3] = ["copy", "count", "index"];
const TUPLE: [&str; 2] = ["count", "index"];
const LOOP: [&str; 2] = ["changed", "cycle"];

/// Whether `value` has the method `name`. Methods that change a list or a dict are left out, as in Jinja's sandbox.
pub(super) fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) => string_methods::NAMES.contains(&name),
        Value::Dict(_) => DICT.contains(&name),
        Value::Seq(seq) => match seq.kind {
            SeqKind::List => LIST.contains(&name),
            SeqKind::Tuple | SeqKind::Range { .. } => TUPLE.contains(&name),
            _ => false,
        },
        Value::Float(_) => name == "is_integer",
        Value::Loop(_) => LOOP.contains(&name),
        _ => false,
    }
}

/// `value.name(arguments)`.
pub(super) fn call(interpreter: &mut Interpreter, value: &Value, name: &str, arguments: Arguments) -> Result<Value> {
    match value {
        Value::Str(text) => string_methods::call(interpreter, text, name, arguments),
        Value::Dict(_) => dict(interpreter, value, name, arguments),
        Value::Seq(_) => seq(interpreter, value, name, arguments),
        Value::Float(float) => {
            let [] = arguments.bind(name, [], 0)?;
            Ok(Value::Bool(float.fract() == 0.0))
        }
        Value::Loop(id) => functions::loop_method(interpreter, *id, name, arguments),
        _ => failed(format!("'{}' has no method `{name}`", value.type_name())),
    }
}

fn dict(interpreter: &Interpreter, value: &Value, name: &str, arguments: Arguments) -> Result<Value> {
    let meter = &interpreter.meter;
    let Value::Dict(dict) = value else { return Ok(Value::UNDEFINED) };
    if name == "get" {
        let [key, default] = arguments.bind(name, ["key", "default"], 1)?;
        let found = dict.get(meter, &key.unwrap_or(Value::None))?.cloned();
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    let [] = arguments.bind(name, [], 0)?;
    meter.slots(dict.entries().len())?;
    let entries = dict.entries().iter();
    match name {
        "copy" => Ok(value.clone()),
        "keys" => Value::seq(meter, SeqKind::View("dict_keys"), entries.map(|(key, _)| key.clone()).collect()),
        "values" => Value::seq(meter, SeqKind::View("dict_values"), entries.map(|(_, value)| value.clone()).collect()),
        _ => {
            let pairs = entries.map(|(key, value)| Value::tuple(meter, vec![key.clone(), value.clone()]));
            Value::seq(meter, SeqKind::View("dict_items"), pairs.collect::<Result<_>>()?)
        }
    }
}

fn seq(interpreter: &Interpreter, value: &Value, name: &str, arguments: Arguments) -> Result<Value> {
    let meter = &interpreter.meter;
    let Value::Seq(seq) = value else { return Ok(Value::UNDEFINED) };
    if name == "copy" {
        let [] = arguments.bind(name, [], 0)?;
        return Ok(value.clone());
    }
    let [wanted, start, stop] = arguments.bind(name, ["value", "start", "stop"], 1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let length = seq.items.len() as i128;
    let place = |bound: &Option<Value>, default: i128| -> Result<i128> {
        let bound = args::optional_int(name, bound)?.unwrap_or(default);
        Ok(if bound < 0 { bound.saturating_add(length).max(0) } else { bound })
    };
    let (start, stop) = (place(&start, 0)?, place(&stop, length)?);
    let mut count = 0;
    for (position, item) in seq.items.iter().enumerate() {
        let inside = (start..stop).contains(&(position as i128));
        if inside && ops::equal(meter, item, &wanted)? {
            if name == "index" {
                return Ok(Value::Int(position as i128));
            }
            count += 1;
        }
    }
    if name == "index" { failed("the value is not in the list") } else { Ok(Value::Int(count)) }
}
