//! Weight map and load plan as one table: a line for the parameters of equal layers that get their values in the same way.

use super::collapse::{alike, ranges, runs};
use super::compact::{inline, inline_fields, left_out, object, wrapped};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The name under which the pieces of a parameter are shown.
const PIECES: &str = "<-";
/// Names up to this many characters share a line.
const WIDTH: usize = 120;

/// The table: first the fields that most parameters have in common, then lines with the differences.
pub fn table(slots: Value, rows: Value) -> Vec<String> {
    let (Value::Array(slots), Value::Array(rows)) = (slots, rows) else { panic!("lists of slots and rows") };
    assert_eq!(slots.len(), rows.len(), "a row for each parameter");
    // Values of many experts are large, so each is dropped when it has been read.
    let pairs = slots.into_iter().zip(rows);
    let mut parameters: Vec<Parameter> = pairs.map(|(slot, row)| Parameter::new(&slot, &row)).collect();
    let common = common(&parameters);
    parameters.iter_mut().for_each(|parameter| parameter.leave_out(&common));

    let mut lines = vec![format!("{} parameters, unless a line says otherwise with", parameters.len())];
    let texts = common.iter().map(|(key, value)| field_text(key, value));
    lines.extend(wrapped(1, &texts.collect::<Vec<_>>()));
    let is_in_layer = |parameter: &Parameter| parameter.place.layer.is_some();
    let first = parameters.iter().position(is_in_layer).unwrap_or(parameters.len());
    let last = parameters.iter().rposition(is_in_layer).map_or(first, |last| last + 1);
    lines.extend(joined(&parameters[..first]));
    lines.extend(by_layer(&parameters[first..last]));
    lines.extend(joined(&parameters[last..]));
    lines
}

/// Parameters of each layer; those of equal layers once, and of the others only the lines that the first does not have.
fn by_layer(parameters: &[Parameter]) -> Vec<String> {
    let mut layers: Vec<Vec<Parameter>> = Vec::new();
    for parameter in parameters {
        let index: usize = parameter.place.layer.as_ref().expect("between those of layers").parse().unwrap();
        layers.resize(layers.len().max(index + 1), Vec::new());
        layers[index].push(parameter.clone());
    }
    let texts = layers.iter().map(|layer| joined(layer)).collect();
    let distinct: Vec<(Vec<String>, Vec<usize>)> = alike(texts);
    let mut lines = Vec::new();
    for (index, (texts, members)) in distinct.iter().enumerate() {
        let (first, first_members) = &distinct[0];
        let members = ranges(members);
        let more: Vec<&String> = texts.iter().filter(|line| !first.contains(line)).collect();
        if index == 0 || more.len() * 2 > texts.len() {
            lines.push(format!("layers N = {members}:"));
            lines.extend(texts.iter().map(|line| format!("  {line}")));
            continue;
        }
        lines.push(format!("layers N = {members}, as N = {} but:", ranges(first_members)));
        lines.extend(first.iter().filter(|line| !texts.contains(line)).map(|line| format!("  without {line}")));
        lines.extend(more.iter().map(|line| format!("  with {line}")));
    }
    lines
}

/// Lines of parameters: equal ones (of experts) are counted, and neighbours that differ in their name alone share a line.
fn joined(parameters: &[Parameter]) -> Vec<String> {
    let distinct = alike(parameters.iter().map(|parameter| (parameter.short_name(), parameter.text())).collect());
    let mut lines: Vec<(String, String)> = Vec::new();
    for ((name, text), members) in distinct {
        let name = if members.len() > 1 { format!("{} x {name}", members.len()) } else { name };
        match lines.last_mut() {
            Some((names, before)) if *before == text && names.len() + name.len() < WIDTH => {
                names.push_str(", ");
                names.push_str(&name);
            }
            _ => lines.push((name, text)),
        }
    }
    lines.into_iter().map(|(names, text)| format!("{names} {text}")).collect()
}

/// One parameter: its entries in the weight map and in the plan.
#[derive(Clone)]
struct Parameter {
    name: String,
    place: Place,
    shape: Value,
    fields: Map<String, Value>,
}

impl Parameter {
    fn new(slot: &Value, row: &Value) -> Self {
        let name = slot["path"].as_str().unwrap().to_owned();
        assert_eq!(row["parameter"], slot["path"], "in the same order");
        let place = Place::of(&name);
        let (mut fields, mut planned) = (object(slot), object(row));
        fields.shift_remove("path");
        planned.shift_remove("parameter");
        let shape = fields.shift_remove("shape").unwrap_or_default();
        if planned.get("shape") == Some(&shape) {
            planned.shift_remove("shape");
        }
        let pieces = slot["pieces"].as_array().unwrap();
        fields.shift_remove("pieces");
        per_element(&mut planned, elements(&shape));
        let stored = planned.get("stored").cloned();
        planned.values_mut().for_each(|value| shorten_sources(value, pieces, stored.as_ref()));
        for (key, value) in planned {
            match fields.get(&key) {
                Some(known) if *known == value => {}
                Some(_) => drop(fields.insert(format!("planned {key}"), value)),
                None => drop(fields.insert(key, value)),
            }
        }
        let pieces: Vec<String> = pieces.iter().map(|piece| piece_text(piece, slot, &place)).collect();
        fields.insert(PIECES.to_owned(), runs(&pieces).join(", ").into());
        fields.values_mut().for_each(|value| place.generalise(value));
        Self { name, place, shape, fields }
    }

    fn leave_out(&mut self, common: &Map<String, Value>) {
        for (key, value) in common {
            match self.fields.get(key) {
                Some(own) if own == value => drop(self.fields.shift_remove(key)),
                Some(_) => {}
                None => drop(self.fields.insert(key.clone(), left_out())),
            }
        }
    }

    fn short_name(&self) -> String {
        let generic = self.place.generic(&self.name);
        generic.strip_prefix("model.layers.N.").map(str::to_owned).unwrap_or(generic)
    }

    fn text(&self) -> String {
        let fields = self.fields.iter().map(|(key, value)| field_text(key, value));
        format!("{} {}", inline(&self.shape), fields.collect::<Vec<_>>().join(", ")).trim_end().to_owned()
    }
}

/// A field as text. Pieces are text already, and a role is shown without its key.
fn field_text(key: &str, value: &Value) -> String {
    match value.as_str() {
        Some(text) if key == PIECES => format!("{key} {text}"),
        Some(_) if key == "role" => inline(value),
        _ => format!("{key}: {}", inline(value)),
    }
}

/// Of each field the value that more than half of the parameters have.
fn common(parameters: &[Parameter]) -> Map<String, Value> {
    let fields = || parameters.iter().flat_map(|parameter| &parameter.fields);
    let mut counts: HashMap<(&str, String), usize> = HashMap::new();
    fields().for_each(|(key, value)| *counts.entry((key, value.to_string())).or_default() += 1);
    counts.retain(|_, count| *count * 2 > parameters.len());
    let common = fields().filter(|(key, value)| counts.contains_key(&(key.as_str(), value.to_string())));
    common.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn elements(shape: &Value) -> u64 {
    shape.as_array().into_iter().flatten().map(|size| size.as_u64().unwrap()).product()
}

/// A number of bytes as that of each element, where it can be.
fn per_element(fields: &mut Map<String, Value>, elements: u64) {
    if let Some(bytes) = fields.get("bytes").and_then(Value::as_u64)
        && elements > 0
        && bytes.is_multiple_of(elements)
    {
        fields.shift_remove("bytes");
        fields.insert("bytes an element".to_owned(), (bytes / elements).into());
    }
}

/// A piece as text: the tensor, its shape if it is not the parameter's, and operations. `itself` is the tensor of the same name.
fn piece_text(piece: &Value, slot: &Value, place: &Place) -> String {
    let mut fields = object(piece);
    let tensor = fields.shift_remove("tensor").unwrap_or_default();
    let name = if tensor == slot["path"] { "itself".to_owned() } else { inline(&tensor) };
    let mut text = place.generic(&name);
    if let Some(shape) = fields.shift_remove("tensor_shape").filter(|shape| *shape != slot["shape"]) {
        text.push_str(&format!(" {}", inline(&shape)));
    }
    for op in fields.shift_remove("ops").iter().flat_map(|ops| ops.as_array().unwrap()) {
        let op = place.generic_op(op.clone());
        let op = op.as_object().map_or_else(|| inline(&op), inline_fields);
        text.push_str(&format!(" | {op}"));
    }
    if !fields.is_empty() {
        text.push_str(&format!(" {{{}}}", inline_fields(&fields)));
    }
    text
}

/// Leaves out of planned sources, wherever they are in a row, all that the pieces and the row say already, and gives the length of each
/// in the file in bytes an element. A list of as many sources as pieces has one for each piece.
fn shorten_sources(value: &mut Value, pieces: &[Value], stored: Option<&Value>) {
    match value {
        Value::Array(values) => {
            let has_all = values.len() == pieces.len();
            for (index, value) in values.iter_mut().enumerate() {
                let piece = if has_all { &pieces[index] } else { &Value::Null };
                match value.as_object_mut() {
                    Some(source) if source.contains_key("range") => shorten_source(source, piece, stored),
                    _ => shorten_sources(value, pieces, stored),
                }
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|value| shorten_sources(value, pieces, stored)),
        _ => {}
    }
}

fn shorten_source(source: &mut Map<String, Value>, piece: &Value, stored: Option<&Value>) {
    if let Some(range) = source.shift_remove("range") {
        let length = range["end"].as_u64().unwrap() - range["start"].as_u64().unwrap();
        source.insert("bytes".to_owned(), length.into());
    }
    if source.get("stored") == stored {
        source.shift_remove("stored");
    }
    if piece.is_object() {
        let pruned = object(piece);
        for key in ["tensor", "ops"] {
            if source.get(key) == pruned.get(key) {
                source.shift_remove(key);
            }
        }
        per_element(source, elements(&piece["tensor_shape"]));
    }
}

/// The layer and expert that a parameter belongs to.
#[derive(Clone)]
struct Place {
    layer: Option<String>,
    expert: Option<String>,
}

impl Place {
    fn of(path: &str) -> Self {
        let after = |word: &str| {
            let mut segments = path.split('.').skip_while(|segment| *segment != word);
            segments.nth(1).map(str::to_owned)
        };
        Self { layer: after("layers"), expert: after("experts") }
    }

    /// `name` with the numbers of this place replaced; other numbers stay, so that a tensor from elsewhere shows.
    fn generic(&self, name: &str) -> String {
        let mut layer = self.layer.as_deref();
        let mut after_experts = false;
        let segments = name.split('.').map(|segment| {
            let is_expert = std::mem::replace(&mut after_experts, segment == "experts");
            if is_expert && self.expert.as_deref() == Some(segment) {
                "E"
            } else if layer == Some(segment) {
                layer = None;
                "N"
            } else {
                segment
            }
        });
        segments.collect::<Vec<_>>().join(".")
    }

    /// An operation that selects what belongs to this expert, with `E` for its number.
    fn generic_op(&self, mut op: Value) -> Value {
        // Other axes are those of the expert itself.
        if op.pointer("/Select/axis") == Some(&0.into())
            && let Some(index) = op.pointer_mut("/Select/index")
            && self.expert.as_deref() == Some(index.to_string().as_str())
        {
            *index = "E".into();
        }
        op
    }

    /// The same for all texts in a value.
    fn generalise(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.generic(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.generalise(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.generalise(value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LAYERS: usize = 4;
    const EXPERTS: usize = 3;

    /// Slots and rows of a small mixture whose experts are parts of one tensor.
    fn mixture() -> [Vec<Value>; 2] {
        let [mut slots, mut rows] = [Vec::new(), Vec::new()];
        let mut add = |path: String, shape: [u64; 2], tensor: String, tensor_shape: Vec<u64>, ops: Value| {
            let (bytes, stored) = (shape[0] * shape[1] * 4, tensor_shape.iter().product::<u64>() * 4);
            slots.push(json!({
                "path": path, "shape": shape, "role": "Projection", "keep_float32": false,
                "pieces": [{"tensor": tensor, "tensor_shape": tensor_shape, "ops": ops}],
            }));
            let start = rows.len() * 1000;
            rows.push(json!({
                "parameter": path, "shape": shape, "role": "Projection", "stored": "F32", "target": "F32", "bytes": bytes,
                "mapped": true, "reason": "as stored",
                "sources": [{"tensor": tensor, "shard": 0, "stored": "F32", "ops": ops,
                    "range": {"start": start, "end": start as u64 + stored}}],
            }));
        };
        add("model.embed.weight".into(), [96, 32], "model.embed.weight".into(), vec![96, 32], json!([]));
        for layer in 0..LAYERS {
            let here = format!("model.layers.{layer}");
            for name in ["q", "k"] {
                let path = format!("{here}.attn.{name}.weight");
                add(path.clone(), [32, 32], path, vec![32, 32], json!([]));
            }
            for expert in 0..EXPERTS {
                let ops = json!([{"Select": {"axis": 0, "index": expert}}]);
                let path = format!("{here}.mlp.experts.{expert}.up.weight");
                add(path, [16, 32], format!("h.{layer}.experts.{expert}.up"), vec![3, 16, 32], ops);
            }
        }
        [slots, rows]
    }

    fn text([slots, rows]: &[Vec<Value>; 2]) -> String {
        table(slots.clone().into(), rows.clone().into()).join("\n")
    }

    #[test]
    fn equal_parameters_are_shown_once() {
        let text = text(&mixture());
        let lines: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("model.")).collect();
        assert_eq!(lines[0], "model.embed.weight [96, 32] <- itself");
        assert_eq!(lines[1], "layers N = 0-3:");
        assert_eq!(lines[2], "  attn.q.weight, attn.k.weight [32, 32] <- itself");
        assert_eq!(lines[3], "  3 x mlp.experts.E.up.weight [16, 32]");
        assert_eq!(lines.len(), 4, "{text}");
    }

    /// Whatever changes for one of many equal parameters.
    #[test]
    fn a_change_in_one_parameter_shows() {
        let changes: [(usize, &str, Value); 12] = [
            (0, "/shape", json!([32, 31])),
            (0, "/role", json!("Norm")),
            (0, "/keep_float32", json!(true)),
            (0, "/pieces/0/tensor", json!("model.layers.0.elsewhere")),
            (0, "/pieces/0/tensor_shape", json!([32, 33])),
            (0, "/pieces/0/ops", json!([{"Transpose": [0, 1]}])),
            (1, "/target", json!("F16")),
            (1, "/bytes", json!(0)),
            (1, "/mapped", json!(false)),
            (1, "/sources/0/tensor", json!("elsewhere")),
            (1, "/sources/0/shard", json!(1)),
            (1, "/sources/0/range/end", json!(1_000_000)),
        ];
        let mut seen = vec![text(&mixture())];
        let count = mixture()[0].len();
        for (table, path, value) in changes {
            // The first layer, one in the middle, the last expert.
            for index in [1, 7, count - 1] {
                let mut mixture = mixture();
                *mixture[table][index].pointer_mut(path).unwrap() = value.clone();
                let text = text(&mixture);
                assert!(!seen.contains(&text), "{path} of {index}: {text}");
                seen.push(text);
            }
        }
    }

    #[test]
    fn a_tensor_of_another_layer_shows() {
        let mut mixture = mixture();
        let other = mixture[0][6]["pieces"].clone();
        mixture[0][1]["pieces"] = other;
        assert!(text(&mixture).contains("model.layers.1.attn.q.weight"), "{}", text(&mixture));
    }
}
