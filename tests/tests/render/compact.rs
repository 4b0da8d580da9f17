//! A serialised value as text that shows what differs from a default.
//!
//! Left out are null, false, empty texts and lists, and fields with a value in [`DEFAULTS`]. An object whose fields are all left
//! out is `{}`, so that it is not taken for null. Of a list of objects equal ones are shown once, and the others by what differs
//! from the first; there `default` is a field that is left out.

use super::collapse::{alike, ranges, runs};
use serde_json::{Map, Value};

/// Stands for a field that is left out.
const LEFT_OUT: &str = "\u{0}default";
/// Objects and lists up to this many characters stay on one line.
const INLINE: usize = 120;
/// Most axes of a shape.
const SHAPE: usize = 6;

/// Fields that are left out where they have this value, after defaults inside it are left out.
#[rustfmt::skip]
const DEFAULTS: [(&str, &str); 13] = [
    ("bias", "{}"),
    ("embedding", "{}"),
    ("head", "{}"),
    ("activation", r#""Silu""#),
    ("pairing", r#""HalfSplit""#),
    ("scaling", r#""Default""#),
    ("mask", r#""Full""#),
    ("ignored", r#"[{"pattern":"*.rotary_emb.inv_freq","reason":"computed from the config"},{"pattern":"*rotary_pos_emb.inv_freq","reason":"computed from the config"}]"#),
    ("device", r#""CPU (Flex)""#),
    ("dtype", r#""auto""#),
    ("max_bytes_in_flight", "268435456"),
    ("shards", r#"["model.safetensors"]"#),
    ("prefixes", r#"[["model.","model.language_model."],["model.","language_model.model."],["model.",""],["lm_head.","language_model.lm_head."]]"#),
];

/// The fields of an object, one or more lines each.
pub fn lines(value: &Value) -> Vec<String> {
    let mut text = Vec::new();
    fields(&mut text, 0, &object(value));
    text
}

/// The value of a field that [`object`] left out, in a list of differences.
pub fn left_out() -> Value {
    Value::from(LEFT_OUT)
}

/// A value on one line.
pub fn inline(value: &Value) -> String {
    match value {
        Value::String(text) if text == LEFT_OUT => "default".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(values) => {
            let texts: Vec<String> = values.iter().map(inline).collect();
            // Shapes are easier to read as they are.
            let is_shape = values.len() <= SHAPE && values.iter().all(Value::is_number);
            format!("[{}]", if is_shape { texts } else { runs(&texts) }.join(", "))
        }
        Value::Object(fields) => format!("{{{}}}", inline_fields(fields)),
        _ => value.to_string(),
    }
}

/// Fields on one line, without braces.
pub fn inline_fields(fields: &Map<String, Value>) -> String {
    let texts = fields.iter().map(|(key, value)| format!("{key}: {}", inline(value)));
    texts.collect::<Vec<_>>().join(", ")
}

/// The fields of an object that differ from their defaults.
pub fn object(value: &Value) -> Map<String, Value> {
    let fields = value.as_object().unwrap_or_else(|| panic!("{value} is not an object"));
    fields.iter().filter_map(|(key, value)| Some((key.clone(), pruned(key, value)?))).collect()
}

fn pruned(key: &str, value: &Value) -> Option<Value> {
    let value = match value {
        Value::Null | Value::Bool(false) => return None,
        Value::String(text) if text.is_empty() => return None,
        Value::Array(values) if values.is_empty() => return None,
        Value::Array(values) => values.iter().map(element).collect(),
        Value::Object(_) => Value::Object(object(value)),
        _ => value.clone(),
    };
    let default = DEFAULTS.iter().find(|(name, _)| *name == key);
    let is_default = default.is_some_and(|(_, default)| value.to_string().as_str() == *default);
    (!is_default).then_some(value)
}

/// An element of a list stays, whatever it is, because it has a place.
fn element(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(object(value)),
        Value::Array(values) => values.iter().map(element).collect(),
        _ => value.clone(),
    }
}

fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/*".contains(c))
        && !["true", "false", "null", "default"].contains(&text);
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

fn fields(text: &mut Vec<String>, depth: usize, fields: &Map<String, Value>) {
    let mut short: Vec<String> = Vec::new();
    for (key, value) in fields {
        let field_text = format!("{key}: {}", inline(value));
        if field_text.len() <= INLINE {
            short.push(field_text);
        } else {
            text.extend(wrapped(depth, &std::mem::take(&mut short)));
            long_field(text, depth, key, value);
        }
    }
    text.extend(wrapped(depth, &short));
}

/// Short texts, as many on a line as fit.
pub fn wrapped(depth: usize, texts: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for text in texts {
        match lines.last_mut() {
            Some(line) if line.len() + text.len() + 2 <= INLINE => line.extend([", ", text]),
            _ => lines.push(format!("{}{text}", "  ".repeat(depth))),
        }
    }
    lines
}

fn long_field(text: &mut Vec<String>, depth: usize, key: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Array(values) if values.len() > 1 && values.iter().all(is_record) => {
            records(text, depth, key, values);
        }
        Value::Array(values) => {
            text.push(format!("{indent}{key}:"));
            let elements: Vec<String> = values.iter().map(inline).collect();
            text.extend(wrapped(depth + 1, &runs(&elements)));
        }
        Value::Object(inner) => {
            text.push(format!("{indent}{key}:"));
            fields(text, depth + 1, inner);
        }
        _ => text.push(format!("{indent}{key}: {}", inline(value))),
    }
}

/// An object that is long enough to be worth comparing with its neighbours.
fn is_record(value: &Value) -> bool {
    value.is_object() && inline(value).len() > INLINE
}

/// Objects by their index: equal ones once, the others by what differs from the first.
fn records(text: &mut Vec<String>, depth: usize, key: &str, values: &[Value]) {
    let indent = "  ".repeat(depth);
    let distinct = alike(values.to_vec());
    let (first, members) = &distinct[0];
    let name = format!("{key} {}", ranges(members));
    text.push(format!("{indent}{name}:"));
    fields(text, depth + 1, first.as_object().unwrap());
    for (value, members) in &distinct[1..] {
        text.push(format!("{indent}{key} {}, as {name} but:", ranges(members)));
        let mut changes = Vec::new();
        differences(&mut changes, "", first, value);
        let mut changed = Map::new();
        for (path, value) in changes {
            changed.insert(path, value.cloned().unwrap_or_else(left_out));
        }
        fields(text, depth + 1, &changed);
    }
}

/// Dotted paths where `value` is not `base`, with the value there; `None` where only `base` has one.
fn differences<'a>(changes: &mut Vec<(String, Option<&'a Value>)>, path: &str, base: &Value, value: &'a Value) {
    if base == value {
        return;
    }
    let below = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    match (base, value) {
        // Another variant of an enum is shown whole.
        (Value::Object(base), Value::Object(fields))
            if base.len() > 1 || fields.len() > 1 || base.keys().eq(fields.keys()) =>
        {
            for (key, value) in fields {
                match base.get(key) {
                    Some(base) => differences(changes, &below(key), base, value),
                    None => changes.push((below(key), Some(value))),
                }
            }
            let gone = base.keys().filter(|key| !fields.contains_key(*key));
            changes.extend(gone.map(|key| (below(key), None)));
        }
        (Value::Array(base), Value::Array(values))
            if base.len() == values.len() && values.iter().all(Value::is_object) =>
        {
            for (index, (base, value)) in base.iter().zip(values).enumerate() {
                differences(changes, &below(&index.to_string()), base, value);
            }
        }
        _ => changes.push((path.to_owned(), Some(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(window: Option<u64>) -> Value {
        json!({
            "mixer": {"Attention": {
                "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "scale": 0.08838834764831845,
                "bias": {"q": false, "k": false}, "softcap": null, "sinks": false,
                "mask": window.map_or(json!("Full"), |window| json!({"Sliding": {"window": window}})),
                "rope": {"theta": 500000.0, "rotary_dim": 128, "scaling": "Default"},
            }},
            "mlp": {"Gated": {"intermediate_size": 14336, "activation": "Silu", "bias": false}},
        })
    }

    fn layers(values: &[Value]) -> String {
        lines(&json!({ "layers": values })).join("\n")
    }

    #[test]
    fn defaults_are_left_out_and_equal_layers_shown_once() {
        let text = layers(&[layer(None), layer(Some(8)), layer(None)]);
        assert_eq!(
            text,
            "layers 0, 2:\n  mixer:\n    Attention:\n      num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128, \
             scale: 0.08838834764831845\n      rope: {theta: 500000.0, rotary_dim: 128}\n  \
             mlp: {Gated: {intermediate_size: 14336}}\nlayers 1, as layers 0, 2 but:\n  \
             mixer.Attention.mask: {Sliding: {window: 8}}"
        );
    }

    /// Whatever changes in one of many equal layers, however small.
    #[test]
    fn a_change_in_one_layer_shows() {
        let equal = layers(&vec![layer(Some(8)); 12]);
        let changes: [(&str, Value); 9] = [
            ("/mixer/Attention/head_dim", json!(127)),
            ("/mixer/Attention/mask", json!("Full")),
            ("/mixer/Attention/mask/Sliding/window", json!(9)),
            ("/mixer/Attention/sinks", json!(true)),
            ("/mixer/Attention/softcap", json!(0.0)),
            ("/mixer/Attention/softcap", json!({})),
            ("/mixer/Attention/bias/q", json!(true)),
            ("/mixer/Attention/rope", Value::Null),
            ("/mlp", json!({"Plain": {"intermediate_size": 14336}})),
        ];
        let mut seen = vec![equal];
        for (path, value) in changes {
            for index in [0, 5, 11] {
                let mut values = vec![layer(Some(8)); 12];
                *values[index].pointer_mut(path).unwrap() = value.clone();
                let text = layers(&values);
                assert!(text.contains(&format!("layers {index}")), "{path}: {text}");
                assert!(!seen.contains(&text), "{path} in {index}: {text}");
                seen.push(text);
            }
        }
    }

    #[test]
    fn a_field_that_is_added_with_its_default_changes_nothing() {
        let mut more = layer(None);
        let attention = more.pointer_mut("/mixer/Attention").unwrap().as_object_mut().unwrap();
        for (key, value) in [("temperature", Value::Null), ("latent", json!(false)), ("shared", json!([]))] {
            attention.insert(key.to_owned(), value);
        }
        assert_eq!(layers(&[more]), layers(&[layer(None)]));
    }

    #[test]
    fn texts_are_not_taken_for_values() {
        assert_eq!(inline(&json!(["null", "1", "a b", "q.w", null, 1])), r#"["null", "1", "a b", q.w, null, 1]"#);
    }
}
