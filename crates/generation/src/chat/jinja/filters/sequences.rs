//! Filters of lists.

use super::super::args::{self, Arguments};
use super::super::ast::Operator;
use super::super::error::{Result, failed};
use super::super::interpreter::Interpreter;
use super::super::meter::MeteredString;
use super::super::value::{SeqKind, Value};
use super::super::{methods, ops, predicates, text};
use super::apply as apply_filter;

pub(super) fn apply(interpreter: &mut Interpreter, name: &str, value: &Value, arguments: Arguments) -> Result<Value> {
    let meter = interpreter.meter.clone();
    // As in Jinja, a falsy value is an empty list here.
    let none = Value::UNDEFINED;
    let value = if is_lazy(name) && !value.is_true() { &none } else { value };
    match name {
        "map" => return map(interpreter, value, arguments),
        "select" | "reject" | "selectattr" | "rejectattr" => return select(interpreter, name, value, arguments),
        "join" => {
            let [separator, attribute] = arguments.bind(name, ["d", "attribute"], 0)?;
            let separator = text::str(&meter, &separator.unwrap_or(Value::UNDEFINED))?;
            let mut joined = MeteredString::new(&meter);
            for (index, item) in value.iterate(&meter)?.into_iter().enumerate() {
                let item = match &attribute {
                    Some(path) => interpreter.path(&item, path)?,
                    None => item,
                };
                joined.push(if index > 0 { &separator } else { "" })?;
                text::write_str(&mut joined, &meter, &item)?;
            }
            return Ok(Value::str(joined.finish()));
        }
        "sum" => {
            let [attribute, start] = arguments.bind(name, ["attribute", "start"], 0)?;
            let mut sum = start.unwrap_or(Value::Int(0));
            for item in value.iterate(&meter)? {
                let item = match attribute.as_ref().filter(|path| !matches!(path, Value::None)) {
                    Some(path) => interpreter.path(&item, path)?,
                    None => item,
                };
                sum = ops::arithmetic(&meter, Operator::Add, sum, item)?;
            }
            return Ok(sum);
        }
        "batch" | "slice" => {
            let [count, fill] = arguments.bind(name, ["count", "fill_with"], 1)?;
            let count = args::size(name, &count, 0)?;
            let fill = fill.filter(|fill| !matches!(fill, Value::None));
            if count == 0 {
                return failed(format!("`{name}` needs a number above 0"));
            }
            let items = value.iterate(&meter)?;
            return if name == "batch" {
                batch(interpreter, &items, count, fill)
            } else {
                slice(interpreter, &items, count, fill)
            };
        }
        _ => {}
    }
    let [] = arguments.bind(name, [], 0)?;
    match name {
        "first" => match value {
            Value::Seq(seq) => match &seq.kind {
                SeqKind::Generator { next } => {
                    let first = seq.items.get(next.get()).cloned();
                    next.set((next.get() + 1).min(seq.items.len()));
                    Ok(first.unwrap_or(Value::UNDEFINED))
                }
                _ => Ok(seq.items.first().cloned().unwrap_or(Value::UNDEFINED)),
            },
            _ => Ok(value.iterate(&meter)?.into_iter().next().unwrap_or(Value::UNDEFINED)),
        },
        "last" => match value {
            Value::Seq(seq) if !seq.has_len() => failed("`last` does not work on a generator: use `list` first"),
            _ => Ok(value.iterate(&meter)?.pop().unwrap_or(Value::UNDEFINED)),
        },
        "list" => Value::list(&meter, value.iterate(&meter)?),
        "items" => match value {
            Value::Undefined(_) => Value::generator(&meter, Vec::new()),
            Value::Dict(_) => methods::call(interpreter, value, "items", Arguments::default()),
            _ => failed("`items` needs a mapping"),
        },
        _ => match value {
            Value::Str(text) => {
                meter.bytes(text.len())?;
                Ok(Value::str(text.chars().rev().collect::<String>()))
            }
            _ => {
                let mut items = value.iterate(&meter)?;
                items.reverse();
                Value::generator(&meter, items)
            }
        },
    }
}

fn is_lazy(name: &str) -> bool {
    matches!(name, "map" | "select" | "reject" | "selectattr" | "rejectattr")
}

/// `map('upper')`, or `map(attribute='role', default='')`.
fn map(interpreter: &mut Interpreter, value: &Value, mut arguments: Arguments) -> Result<Value> {
    let meter = interpreter.meter.clone();
    let items = value.iterate(&meter)?;
    let mut mapped = Vec::with_capacity(items.len());
    if arguments.positional.is_empty() {
        let [attribute, default] = arguments.bind("map", ["attribute", "default"], 1)?;
        let attribute = attribute.unwrap_or(Value::None);
        for item in items {
            let found = interpreter.path(&item, &attribute)?;
            mapped.push(match &default {
                Some(default) if found.is_undefined() => default.clone(),
                _ => found,
            });
        }
        return Value::generator(&meter, mapped);
    }
    let Value::Str(name) = arguments.positional.remove(0) else { return failed("`map` needs the name of a filter") };
    for item in items {
        let arguments = copied(interpreter, &arguments)?;
        mapped.push(interpreter.nested(|interpreter| apply_filter(interpreter, &name, item, arguments))?);
    }
    Value::generator(&meter, mapped)
}

/// The items that pass a test, or fail it; `selectattr` tests an attribute.
fn select(interpreter: &mut Interpreter, name: &str, value: &Value, mut arguments: Arguments) -> Result<Value> {
    let meter = interpreter.meter.clone();
    let of_attribute = name.ends_with("attr");
    let attribute = match of_attribute {
        true if arguments.positional.is_empty() => return failed(format!("`{name}` needs the name of an attribute")),
        true => Some(arguments.positional.remove(0)),
        false => None,
    };
    let test = if arguments.positional.is_empty() { None } else { Some(arguments.positional.remove(0)) };
    let mut kept = Vec::new();
    for item in value.iterate(&meter)? {
        let tested = match &attribute {
            Some(path) => interpreter.path(&item, path)?,
            None => item.clone(),
        };
        let passes = match &test {
            None => tested.is_true(),
            Some(Value::Str(test)) => {
                let arguments = copied(interpreter, &arguments)?;
                predicates::check(interpreter, test, &tested, arguments)?
            }
            Some(_) => return failed(format!("`{name}` needs the name of a test")),
        };
        if passes == name.starts_with("select") {
            kept.push(item);
        }
    }
    Value::generator(&meter, kept)
}

fn copied(interpreter: &Interpreter, arguments: &Arguments) -> Result<Arguments> {
    interpreter.meter.slots(1 + arguments.positional.len() + 2 * arguments.named.len())?;
    Ok(Arguments { positional: arguments.positional.clone(), named: arguments.named.clone() })
}

/// Lists of `count` items each, the last one padded with `fill`.
fn batch(interpreter: &Interpreter, items: &[Value], count: usize, fill: Option<Value>) -> Result<Value> {
    let meter = &interpreter.meter;
    let mut batches = Vec::new();
    for chunk in items.chunks(count) {
        let mut batch = chunk.to_vec();
        if let Some(fill) = &fill {
            meter.slots(count - batch.len())?;
            batch.resize(count, fill.clone());
        }
        batches.push(Value::list(meter, batch)?);
    }
    Value::generator(meter, batches)
}

/// `count` lists of about the same length, the shorter ones padded with `fill`.
fn slice(interpreter: &Interpreter, items: &[Value], count: usize, fill: Option<Value>) -> Result<Value> {
    let meter = &interpreter.meter;
    meter.steps(count)?;
    let (length, longer) = (items.len() / count, items.len() % count);
    let mut start = 0;
    let mut slices = Vec::new();
    for index in 0..count {
        let end = start + length + usize::from(index < longer);
        let mut slice = items[start..end].to_vec();
        if let Some(fill) = fill.as_ref().filter(|_| index >= longer) {
            slice.push(fill.clone());
        }
        slices.push(Value::list(meter, slice)?);
        start = end;
    }
    Value::generator(meter, slices)
}
