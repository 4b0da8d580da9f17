//! Python's operators.

use super::ast::Operator;
use super::error::{Result, failed};
use super::meter::{Meter, MeteredString};
use super::value::{Seq, SeqKind, Value};
use super::{percent, text};
use std::cmp::Ordering;

/// `a == b`.
pub(super) fn equal(meter: &Meter, a: &Value, b: &Value) -> Result<bool> {
    meter.steps(1)?;
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(a), Value::Str(b)) => {
            if a.len() == b.len() {
                meter.bytes(a.len())?;
            }
            a == b
        }
        (Value::Seq(a), Value::Seq(b)) => {
            let same_kind = matches!(
                (&a.kind, &b.kind),
                (SeqKind::List, SeqKind::List)
                    | (SeqKind::Tuple, SeqKind::Tuple)
                    | (SeqKind::Range { .. }, SeqKind::Range { .. })
            );
            if !same_kind || a.items.len() != b.items.len() {
                return Ok(std::rc::Rc::ptr_eq(a, b));
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(meter, a, b)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries().len() != b.entries().len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(meter, key)? {
                    Some(other) if equal(meter, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Namespace(a), Value::Namespace(b))
        | (Value::Loop(a), Value::Loop(b))
        | (Value::Macro(a), Value::Macro(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => match (a.as_int(), b.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
        },
    })
}

/// The order of two values; `None` if one is NaN.
pub(super) fn compare(meter: &Meter, a: &Value, b: &Value) -> Result<Option<Ordering>> {
    meter.steps(1)?;
    a.check_defined()?;
    b.check_defined()?;
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => {
            meter.bytes(a.len().min(b.len()))?;
            return Ok(Some(a.cmp(b)));
        }
        (Value::Seq(x), Value::Seq(y))
            if matches!((&x.kind, &y.kind), (SeqKind::List, SeqKind::List) | (SeqKind::Tuple, SeqKind::Tuple)) =>
        {
            for (x, y) in x.items.iter().zip(&y.items) {
                if !equal(meter, x, y)? {
                    return compare(meter, x, y);
                }
            }
            return Ok(Some(x.items.len().cmp(&y.items.len())));
        }
        _ => {}
    }
    match (a.as_int(), b.as_int(), a.as_float(), b.as_float()) {
        (Some(a), Some(b), ..) => Ok(Some(a.cmp(&b))),
        (.., Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
        _ => failed(format!("'{}' and '{}' cannot be ordered", a.type_name(), b.type_name())),
    }
}

/// `item in container`.
pub(super) fn contains(meter: &Meter, container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Undefined(_) => Ok(false),
        Value::Str(text) => match item {
            Value::Str(part) => {
                meter.bytes(text.len())?;
                Ok(text.contains(&**part))
            }
            _ => failed(format!("'in' with a string needs a string before it, not '{}'", item.type_name())),
        },
        Value::Seq(seq) => {
            for other in seq.rest() {
                if equal(meter, item, other)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Dict(dict) => Ok(dict.get(meter, item)?.is_some()),
        _ => failed(format!("argument of type '{}' is not iterable", container.type_name())),
    }
}

/// `a + b` and the other binary operators.
pub(super) fn arithmetic(meter: &Meter, operator: Operator, a: Value, b: Value) -> Result<Value> {
    if operator == Operator::Add
        && let Some(joined) = add_safe(meter, &a, &b)?
    {
        return Ok(joined);
    }
    let (a, b) = (&a.plain(), &b.plain());
    a.check_defined()?;
    match (operator, a, b) {
        (Operator::Mod, Value::Str(format), _) => return percent::format(meter, format, b).map(Value::str),
        (Operator::Add, Value::Str(a), Value::Str(b)) => {
            let mut text = MeteredString::new(meter);
            text.push(a)?;
            text.push(b)?;
            return Ok(Value::str(text.finish()));
        }
        (Operator::Add, Value::Seq(a), Value::Seq(b)) => {
            if let Some(kind) = joined_kind(a, b) {
                meter.slots(a.items.len() + b.items.len())?;
                return Value::seq(meter, kind, [&a.items[..], &b.items[..]].concat());
            }
        }
        (Operator::Mul, Value::Str(_) | Value::Seq(_), _) => return repeat(meter, a, b),
        (Operator::Mul, _, Value::Str(_) | Value::Seq(_)) => return repeat(meter, b, a),
        _ => {}
    }
    b.check_defined()?;
    match (a.as_int(), b.as_int(), a.as_float(), b.as_float()) {
        (Some(a), Some(b), ..) => integers(operator, a, b),
        (.., Some(a), Some(b)) => floats(operator, a, b).map(Value::Float),
        _ => failed(format!("'{}' and '{}' cannot be {}", a.type_name(), b.type_name(), done(operator))),
    }
}

/// The concatenation of two strings one of which is safe, so that the other is escaped.
fn add_safe(meter: &Meter, a: &Value, b: &Value) -> Result<Option<Value>> {
    let mut joined = MeteredString::new(meter);
    match (a, b) {
        (Value::Safe(a), Value::Safe(b)) => [a, b].into_iter().try_for_each(|text| joined.push(text))?,
        (Value::Safe(a), Value::Str(b)) => {
            joined.push(a)?;
            joined.push(&text::escaped(meter, b)?)?;
        }
        (Value::Str(a), Value::Safe(b)) => {
            joined.push(&text::escaped(meter, a)?)?;
            joined.push(b)?;
        }
        _ => return Ok(None),
    }
    Ok(Some(Value::Safe(joined.finish().into())))
}

fn done(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "added: to concatenate strings use `~` or `| string`",
        Operator::Sub => "subtracted",
        Operator::Mul => "multiplied",
        Operator::Div | Operator::FloorDiv | Operator::Mod => "divided",
        Operator::Pow => "raised to a power",
    }
}

fn joined_kind(a: &Seq, b: &Seq) -> Option<SeqKind> {
    match (&a.kind, &b.kind) {
        (SeqKind::List, SeqKind::List) => Some(SeqKind::List),
        (SeqKind::Tuple, SeqKind::Tuple) => Some(SeqKind::Tuple),
        _ => None,
    }
}

fn repeat(meter: &Meter, value: &Value, count: &Value) -> Result<Value> {
    let Some(count) = count.as_int() else {
        return failed(format!("a {} cannot be multiplied with '{}'", value.type_name(), count.type_name()));
    };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    match value {
        Value::Str(text) => {
            let mut repeated = MeteredString::new(meter);
            repeated.repeat(text, if text.is_empty() { 0 } else { count })?;
            Ok(Value::str(repeated.finish()))
        }
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            meter.slots(seq.items.len().saturating_mul(count))?;
            let count = if seq.items.is_empty() { 0 } else { count };
            let items = (0..count).flat_map(|_| seq.items.iter().cloned()).collect();
            let kind = if matches!(seq.kind, SeqKind::List) { SeqKind::List } else { SeqKind::Tuple };
            Value::seq(meter, kind, items)
        }
        _ => failed(format!("'{}' cannot be multiplied", value.type_name())),
    }
}

fn integers(operator: Operator, a: i128, b: i128) -> Result<Value> {
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Sub => a.checked_sub(b),
        Operator::Mul => a.checked_mul(b),
        Operator::Div | Operator::FloorDiv | Operator::Mod if b == 0 => return failed("division by zero"),
        Operator::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Operator::FloorDiv => a.checked_div(b).map(|quotient| {
            let inexact = quotient.wrapping_mul(b) != a;
            quotient - i128::from(inexact && (a < 0) != (b < 0))
        }),
        Operator::Mod => a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
        Operator::Pow if b < 0 => return floats(operator, a as f64, b as f64).map(Value::Float),
        Operator::Pow => match u32::try_from(b) {
            Ok(exponent) => a.checked_pow(exponent),
            Err(_) if matches!(a, 0 | 1) => Some(a),
            Err(_) => None,
        },
    };
    match result {
        Some(result) => Ok(Value::Int(result)),
        None => failed("an integer is too large"),
    }
}

fn floats(operator: Operator, a: f64, b: f64) -> Result<f64> {
    Ok(match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div | Operator::FloorDiv | Operator::Mod if b == 0.0 => return failed("division by zero"),
        Operator::Div => a / b,
        Operator::FloorDiv => (a / b).floor(),
        Operator::Mod => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        Operator::Pow if a == 0.0 && b < 0.0 => return failed("0.0 cannot be raised to a negative power"),
        Operator::Pow => a.powf(b),
    })
}

/// `-value` and `+value`.
pub(super) fn signed(value: &Value, negative: bool) -> Result<Value> {
    value.check_defined()?;
    match value {
        Value::Float(float) => Ok(Value::Float(if negative { -float } else { *float })),
        _ => match value.as_int() {
            Some(integer) if !negative => Ok(Value::Int(integer)),
            Some(integer) => {
                integer.checked_neg().map_or_else(|| failed("an integer is too large"), |n| Ok(Value::Int(n)))
            }
            None => failed(format!("'{}' cannot be negated", value.type_name())),
        },
    }
}

/// `sequence[index]`, counted from the end if negative; `None` out of range.
pub(super) fn index(meter: &Meter, value: &Value, index: i128) -> Result<Option<Value>> {
    let position = |length: usize| {
        let index = if index < 0 { index + length as i128 } else { index };
        usize::try_from(index).ok().filter(|index| *index < length)
    };
    Ok(match value {
        Value::Str(text) => {
            let length = value.len(meter)?;
            let character = position(length).and_then(|index| text.chars().nth(index));
            character.map(|character| Value::str(&*character.encode_utf8(&mut [0; 4])))
        }
        Value::Seq(seq) if seq.is_indexed() => position(seq.items.len()).map(|index| seq.items[index].clone()),
        _ => None,
    })
}

/// `sequence[start:stop:step]`.
pub(super) fn slice(meter: &Meter, value: &Value, parts: [Option<i128>; 3]) -> Result<Value> {
    let step = parts[2].unwrap_or(1);
    if step == 0 {
        return failed("the step of a slice cannot be zero");
    }
    match value {
        Value::Str(text) => {
            meter.bytes(text.len())?;
            let (start, stop) = bounds(parts, step, text.chars().count());
            if step == 1 {
                let length = (stop - start).max(0) as usize;
                let kept: String = text.chars().skip(start as usize).take(length).collect();
                return Value::new_str(meter, &kept);
            }
            meter.slots(text.len())?;
            let characters: Vec<char> = text.chars().collect();
            let kept: String = positions(start, stop, step).map(|position| characters[position]).collect();
            Value::new_str(meter, &kept)
        }
        Value::Seq(seq) if seq.is_indexed() => {
            let (start, stop) = bounds(parts, step, seq.items.len());
            meter.slots(seq.items.len())?;
            let items = positions(start, stop, step).map(|position| seq.items[position].clone()).collect();
            let kind = if matches!(seq.kind, SeqKind::Tuple) { SeqKind::Tuple } else { SeqKind::List };
            Value::seq(meter, kind, items)
        }
        _ => {
            value.check_defined()?;
            failed(format!("'{}' cannot be sliced", value.type_name()))
        }
    }
}

/// `slice.indices(length)`.
fn bounds(parts: [Option<i128>; 3], step: i128, length: usize) -> (i128, i128) {
    let length = length as i128;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |part: i128| if part < 0 { part.saturating_add(length).max(lowest) } else { part.min(highest) };
    let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    (parts[0].map_or(first, clamp), parts[1].map_or(last, clamp))
}

fn positions(start: i128, stop: i128, step: i128) -> impl Iterator<Item = usize> {
    let inside = move |position: &i128| if step > 0 { *position < stop } else { *position > stop };
    std::iter::successors(Some(start).filter(inside), move |position| position.checked_add(step).filter(inside))
        .map(|position| position as usize)
}
