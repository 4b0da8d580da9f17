//! Filters that compare items: `sort`, `unique`, `max` and others.

use super::super::args::{self, Arguments};
use super::super::error::{Result, failed};
use super::super::interpreter::Interpreter;
use super::super::meter::Meter;
use super::super::ops;
use super::super::value::{SeqKind, Value};
use std::cmp::Ordering;

/// An item and the key that it is compared by.
type Keyed = (Value, Value);

pub(super) fn apply(interpreter: &Interpreter, name: &str, value: &Value, arguments: Arguments) -> Result<Value> {
    let meter = &interpreter.meter;
    match name {
        "dictsort" => {
            let [exact, by, reverse] = arguments.bind(name, ["case_sensitive", "by", "reverse"], 0)?;
            let index = match args::optional_string(name, &by)? {
                None | Some("key") => 0,
                Some("value") => 1,
                Some(_) => return failed("`dictsort` sorts by key or by value"),
            };
            let Value::Dict(dict) = value else { return failed("`dictsort` needs a mapping") };
            let mut pairs = Vec::new();
            for (key, value) in dict.entries() {
                let by = if index == 0 { key } else { value };
                let pair = Value::tuple(meter, vec![key.clone(), value.clone()])?;
                pairs.push((folded(meter, by.clone(), args::flag(&exact))?, pair));
            }
            listed(meter, sorted(meter, pairs, args::flag(&reverse))?)
        }
        "sort" => {
            let [reverse, exact, attribute] = arguments.bind(name, ["reverse", "case_sensitive", "attribute"], 0)?;
            let items = keyed(interpreter, value, &attribute, args::flag(&exact), true)?;
            listed(meter, sorted(meter, items, args::flag(&reverse))?)
        }
        "min" | "max" => {
            let [exact, attribute] = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            let mut best: Option<Keyed> = None;
            for item in keyed(interpreter, value, &attribute, args::flag(&exact), false)? {
                let better = match &best {
                    Some((key, _)) => ops::compare(meter, &item.0, key)? == Some(wanted),
                    None => true,
                };
                if better {
                    best = Some(item);
                }
            }
            Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
        }
        "unique" => {
            let [exact, attribute] = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
            let mut seen: Vec<Keyed> = Vec::new();
            'items: for (key, item) in keyed(interpreter, value, &attribute, args::flag(&exact), false)? {
                for (other, _) in &seen {
                    if ops::equal(meter, &key, other)? {
                        continue 'items;
                    }
                }
                seen.push((key, item));
            }
            Value::generator(meter, seen.into_iter().map(|(_, item)| item).collect())
        }
        _ => {
            let [attribute, default, exact] = arguments.bind(name, ["attribute", "default", "case_sensitive"], 1)?;
            group(interpreter, value, &attribute, default, args::flag(&exact))
        }
    }
}

/// Groups of items with an equal key.
fn group(
    interpreter: &Interpreter,
    value: &Value,
    attribute: &Option<Value>,
    default: Option<Value>,
    exact: bool,
) -> Result<Value> {
    let meter = &interpreter.meter;
    let path = attribute.clone().unwrap_or(Value::None);
    let grouper = |item: &Value| -> Result<Value> {
        let found = interpreter.path(item, &path)?;
        Ok(match &default {
            Some(default) if found.is_undefined() => default.clone(),
            _ => found,
        })
    };
    let mut items = Vec::new();
    for item in value.iterate(meter)? {
        items.push((folded(meter, grouper(&item)?, exact)?, item));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in sorted(meter, items, false)? {
        match groups.last_mut() {
            Some((last, members)) if ops::equal(meter, last, &key)? => members.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut pairs = Vec::new();
    for (_, members) in groups {
        // The name of a group is that of its first member, as it is written there.
        let name = members.first().map_or(Ok(Value::None), grouper)?;
        pairs.push(Value::tuple(meter, vec![name, Value::list(meter, members)?])?);
    }
    Value::list(meter, pairs)
}

/// Items with their keys; `several` attributes are separated by commas.
fn keyed(
    interpreter: &Interpreter,
    value: &Value,
    attribute: &Option<Value>,
    exact: bool,
    several: bool,
) -> Result<Vec<Keyed>> {
    let meter = &interpreter.meter;
    let mut items = Vec::new();
    for item in value.iterate(meter)? {
        let key = match attribute {
            None | Some(Value::None) => folded(meter, item.clone(), exact)?,
            Some(Value::Str(paths)) if several && paths.contains(',') => {
                let mut keys = Vec::new();
                for path in paths.split(',') {
                    keys.push(folded(meter, interpreter.path(&item, &Value::new_str(meter, path)?)?, exact)?);
                }
                Value::seq(meter, SeqKind::List, keys)?
            }
            Some(path) => folded(meter, interpreter.path(&item, path)?, exact)?,
        };
        items.push((key, item));
    }
    Ok(items)
}

/// Strings are compared case-insensitively, unless `exact`.
fn folded(meter: &Meter, key: Value, exact: bool) -> Result<Value> {
    match &key {
        Value::Str(text) if !exact => Value::new_str(meter, &text.to_lowercase()),
        _ => Ok(key),
    }
}

/// Stable sort; equal items keep their order, also in reverse.
///
/// A merge sort, because values of a template may have no order, or no total order (NaN): the sorts of the standard library
/// allow neither.
fn sorted(meter: &Meter, mut items: Vec<Keyed>, reverse: bool) -> Result<Vec<Keyed>> {
    let length = items.len();
    let mut width = 1;
    while width < length {
        let mut merged = Vec::with_capacity(length);
        let mut runs = items.into_iter();
        for _ in 0..length.div_ceil(2 * width) {
            let left: Vec<Keyed> = runs.by_ref().take(width).collect();
            let right: Vec<Keyed> = runs.by_ref().take(width).collect();
            merge(meter, left, right, reverse, &mut merged)?;
        }
        items = merged;
        width *= 2;
    }
    Ok(items)
}

fn merge(meter: &Meter, left: Vec<Keyed>, right: Vec<Keyed>, reverse: bool, merged: &mut Vec<Keyed>) -> Result<()> {
    let mut left = left.into_iter().peekable();
    let mut right = right.into_iter().peekable();
    let first_of_two = if reverse { Ordering::Greater } else { Ordering::Less };
    while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
        let right_first = ops::compare(meter, b, a)? == Some(first_of_two);
        merged.extend(if right_first { right.next() } else { left.next() });
    }
    merged.extend(left);
    merged.extend(right);
    Ok(())
}

fn listed(meter: &Meter, items: Vec<Keyed>) -> Result<Value> {
    Value::list(meter, items.into_iter().map(|(_, item)| item).collect())
}
