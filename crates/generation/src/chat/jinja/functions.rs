//! Global functions, and the attributes of `loop`.

use super::args::Arguments;
use super::error::{Cause, Result, failed};
use super::interpreter::Interpreter;
use super::value::{Dict, Function, SeqKind, Value};
use super::{args, ops, text};
use std::sync::Arc;

/// Longest range, as in Jinja's sandbox.
const RANGE_LIMIT: i128 = 100_000;

pub(super) fn call(interpreter: &mut Interpreter, function: Function, arguments: Arguments) -> Result<Value> {
    let meter = interpreter.meter.clone();
    match function {
        Function::Range => range(interpreter, arguments),
        Function::Dict => Ok(Value::dict(entries(interpreter, "dict", arguments)?)),
        Function::Namespace => {
            let entries = entries(interpreter, "namespace", arguments)?;
            interpreter.new_namespace(entries.entries())
        }
        Function::RaiseException => {
            let [message] = arguments.bind("raise_exception", ["message"], 1)?;
            let message = text::str(&meter, &message.unwrap_or(Value::None))?;
            Err(Cause::Raised(message.to_string()).into())
        }
        Function::StrftimeNow => {
            let [format] = arguments.bind("strftime_now", ["format"], 1)?;
            let format = format.unwrap_or(Value::None);
            let format = args::string("strftime_now", &format)?;
            // A directive writes tens of bytes, and widths are limited.
            meter.bytes(format.len().saturating_mul(64))?;
            match interpreter.clock.strftime(format) {
                Ok(date) => Value::new_str(&meter, &date),
                Err(problem) => failed(problem),
            }
        }
    }
}

/// `dict(entries, name=value)`: a mapping, or pairs.
fn entries(interpreter: &Interpreter, function: &str, arguments: Arguments) -> Result<Dict> {
    let meter = &interpreter.meter;
    if arguments.positional.len() > 1 {
        return failed(format!("`{function}` takes at most one positional argument"));
    }
    let mut dict = Dict::default();
    match arguments.positional.first() {
        Some(Value::Dict(given)) => {
            for (key, value) in given.entries() {
                dict.insert(meter, key.clone(), value.clone())?;
            }
        }
        Some(pairs) => {
            for pair in pairs.iterate(meter)? {
                match <[Value; 2]>::try_from(pair.iterate(meter)?) {
                    Ok([key, value]) => dict.insert(meter, key, value)?,
                    Err(_) => return failed(format!("`{function}` needs a mapping or pairs")),
                }
            }
        }
        None => {}
    }
    for (name, value) in arguments.named {
        dict.insert(meter, Value::Str(name), value)?;
    }
    Ok(dict)
}

fn range(interpreter: &Interpreter, arguments: Arguments) -> Result<Value> {
    let parts = arguments.bind("range", ["start", "stop", "step"], 1)?;
    let mut numbers = [None; 3];
    for (number, part) in numbers.iter_mut().zip(&parts) {
        if let Some(part) = part {
            part.check_defined()?;
        }
        *number = args::optional_int("range", part)?;
    }
    let (start, stop, step) = match numbers {
        [Some(stop), None, None] => (0, stop, 1),
        [Some(start), Some(stop), step] => (start, stop, step.unwrap_or(1)),
        _ => return failed("`range` needs integers"),
    };
    if step == 0 {
        return failed("the step of a range cannot be zero");
    }
    let span = if step > 0 { stop.checked_sub(start) } else { start.checked_sub(stop) };
    let length = span.map(|span| if span <= 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 });
    let Some(length) = length.filter(|length| *length <= RANGE_LIMIT) else {
        return failed(format!("a range has at most {RANGE_LIMIT} numbers"));
    };
    interpreter.meter.slots(length as usize)?;
    let items = (0..length).map(|index| Value::Int(start + index * step)).collect();
    Value::seq(&interpreter.meter, SeqKind::Range { start, stop, step }, items)
}

pub(super) fn loop_attribute(interpreter: &Interpreter, id: usize, name: &Arc<str>) -> Result<Value> {
    let state = &interpreter.loops[id];
    let items = &state.items.items;
    let number = |number: usize| Ok(Value::Int(number as i128));
    let item = |index: Option<usize>| {
        Ok(index.and_then(|index| items.get(index)).cloned().unwrap_or(Value::Undefined(Some(name.clone()))))
    };
    match &**name {
        "index" => number(state.index + 1),
        "index0" => number(state.index),
        "revindex" => number(items.len() - state.index),
        "revindex0" => number(items.len() - state.index - 1),
        "first" => Ok(Value::Bool(state.index == 0)),
        "last" => Ok(Value::Bool(state.index + 1 == items.len())),
        "length" => number(items.len()),
        "depth" => number(state.depth + 1),
        "depth0" => number(state.depth),
        "previtem" => item(state.index.checked_sub(1)),
        "nextitem" => item(state.index.checked_add(1)),
        _ => Ok(Value::Undefined(Some(name.clone()))),
    }
}

/// `loop.cycle(..)` and `loop.changed(..)`.
pub(super) fn loop_method(interpreter: &mut Interpreter, id: usize, name: &str, arguments: Arguments) -> Result<Value> {
    let meter = interpreter.meter.clone();
    let values = arguments.positional;
    let state = &mut interpreter.loops[id];
    if name == "cycle" {
        return match values.len() {
            0 => failed("`cycle` needs at least one value"),
            count => Ok(values[state.index % count].clone()),
        };
    }
    let mut changed = true;
    if let Some(before) = state.changed.as_ref().filter(|before| before.len() == values.len()) {
        changed = false;
        for (a, b) in before.iter().zip(&values) {
            changed |= !ops::equal(&meter, a, b)?;
        }
    }
    state.changed = Some(values);
    Ok(Value::Bool(changed))
}
