//! Conclusions as text that a person can review: layers that are alike are shown once, and so are experts.

use automodel::Summary;
use automodel::loader::{LoadPlan, PlanRow};
use automodel::registry::spec::ModelSpec;
use automodel::registry::weights::{ParameterSlot, SourcePiece, ViewOp, WeightMap};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// Objects and lists up to this many characters stay on one line.
const INLINE: usize = 100;

/// All stages, one section each.
pub fn render(summary: &Summary) -> String {
    let prepared = &summary.prepared;
    let mut text = String::new();
    section(&mut text, "config");
    for (key, value, origin) in prepared.config.describe() {
        line(&mut text, format_args!("{key}: {value} ({origin})"));
    }
    prepared.config.warnings().iter().for_each(|warning| line(&mut text, format_args!("warning: {warning}")));
    section(&mut text, "resolution");
    line(&mut text, &prepared.resolution.reason);
    section(&mut text, "spec");
    spec(&mut text, prepared.lowered.spec.as_ref().unwrap());
    section(&mut text, "weight map");
    weight_map(&mut text, &prepared.lowered.weights);
    section(&mut text, "load plan");
    load_plan(&mut text, &summary.plan);
    text
}

fn section(text: &mut String, title: &str) {
    let gap = if text.is_empty() { "" } else { "\n" };
    line(text, format_args!("{gap}# {title}"));
}

fn line(text: &mut String, line: impl Display) {
    writeln!(text, "{line}").unwrap();
}

fn spec(text: &mut String, spec: &ModelSpec) {
    let Value::Object(mut fields) = serde_json::to_value(spec).unwrap() else { panic!("a spec is an object") };
    let Some(Value::Array(layers)) = fields.remove("layers") else { panic!("layers are a list") };
    fields.iter().for_each(|(key, value)| field(text, 0, key, value));
    for (layers, members) in alike(layers.into_iter().map(|layer| vec![layer]).collect()) {
        line(text, format_args!("layers {members}:"));
        fields_of(text, 1, &layers[0]);
    }
}

/// YAML, more or less.
fn field(text: &mut String, depth: usize, key: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    let inline = value.to_string();
    if inline.len() <= INLINE || !value.is_object() {
        line(text, format_args!("{indent}{key}: {inline}"));
    } else {
        line(text, format_args!("{indent}{key}:"));
        fields_of(text, depth + 1, value);
    }
}

fn fields_of(text: &mut String, depth: usize, value: &Value) {
    for (key, value) in value.as_object().unwrap() {
        field(text, depth, key, value);
    }
}

fn weight_map(text: &mut String, map: &WeightMap) {
    let slot_text = |slot: &ParameterSlot| {
        let place = Place::of(&slot.path);
        let pieces = join(slot.pieces.iter().map(|piece| piece_text(&place, slot, piece)));
        let kept = if slot.keep_float32 { ", stays float32" } else { "" };
        let text = format!("{} {:?} {:?}{kept} <- {pieces}", place.short(&slot.path), slot.shape, slot.role);
        (place.layer, text)
    };
    by_layer(text, map.parameters.iter().map(slot_text).collect());
    for tie in &map.ties {
        let asked = if tie.requested { "requested" } else { "not requested" };
        line(text, format_args!("tie: {} to {}, {asked}", tie.parameter, tie.to));
    }
    let prefixes = map.prefixes.iter().map(|(from, to)| format!("`{from}` as `{to}`"));
    line(text, format_args!("prefixes: {}", prefixes.collect::<Vec<_>>().join(", ")));
    map.ignored.iter().for_each(|rule| line(text, format_args!("ignored: {} ({})", rule.pattern, rule.reason)));
}

fn piece_text(place: &Place, slot: &ParameterSlot, piece: &SourcePiece) -> String {
    let name = if piece.tensor == slot.path { "itself".to_owned() } else { place.generic(&piece.tensor) };
    let shape = if piece.tensor_shape == slot.shape { String::new() } else { format!(" {:?}", piece.tensor_shape) };
    format!("{name}{shape}{}", ops_text(&piece.ops))
}

fn ops_text(ops: &[ViewOp]) -> String {
    let text = |op: &ViewOp| match op {
        ViewOp::Transpose(a, b) => format!("transpose {a} {b}"),
        ViewOp::SplitAxis { axis, sizes } => format!("split {axis} into {sizes:?}"),
        ViewOp::Narrow { axis, start, length } => format!("narrow {axis} to {start}+{length}"),
        ViewOp::Select { axis, index } => format!("select {index} of {axis}"),
        other => format!("{other:?}"),
    };
    ops.iter().map(|op| format!(" | {}", text(op))).collect()
}

fn load_plan(text: &mut String, plan: &LoadPlan) {
    let row_text = |row: &PlanRow| {
        let place = Place::of(row.parameter());
        let sources = row.sources().map(|source| {
            let shard = &plan.shards[source.shard];
            let shard = if plan.shards.len() > 1 { format!(" in {shard}") } else { String::new() };
            let bytes = source.range.end - source.range.start;
            let itself = source.tensor == row.parameter();
            let name = if itself { "itself".to_owned() } else { place.generic(&source.tensor) };
            format!("{name} {} {bytes}{shard}{}", source.stored, ops_text(&source.ops))
        });
        let how = if row.is_mapped() { "mapped" } else { "copied" };
        let from = row.tied_to().map_or_else(|| format!("{how} <- {}", join(sources)), |to| format!("tied to {to}"));
        let text = format!("{} {:?} {} {from}", place.short(row.parameter()), row.target(), row.bytes());
        (place.layer, text)
    };
    by_layer(text, plan.rows.iter().map(row_text).collect());
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    plan.rows.iter().for_each(|row| *reasons.entry(row.reason()).or_default() += 1);
    reasons.iter().for_each(|(reason, count)| line(text, format_args!("dtype of {count}: {reason}")));
    plan.renamed.iter().for_each(|(from, to)| line(text, format_args!("names: `{from}` is `{to}` in these files")));
    plan.ties
        .iter()
        .for_each(|tie| line(text, format_args!("tie: {} to {}: {:?}", tie.parameter, tie.to, tie.decision)));
    plan.ignored.iter().for_each(|(tensor, reason)| line(text, format_args!("ignored: {tensor} ({reason})")));
    plan.unexpected.iter().for_each(|tensor| line(text, format_args!("unexpected: {tensor}")));
    plan.warnings.iter().for_each(|warning| line(text, format_args!("warning: {warning}")));
    line(
        text,
        format_args!(
            "{} parameters; bytes: {} stored, {} on the device, {} of them mapped, peak {}",
            plan.rows.len(),
            plan.stored_bytes,
            plan.target_bytes,
            plan.mapped_bytes,
            plan.peak_bytes
        ),
    );
}

/// Pieces joined; many that are alike but for their place in the list are counted.
fn join(pieces: impl Iterator<Item = String>) -> String {
    let pieces: Vec<String> = pieces.collect();
    match pieces.as_slice() {
        [first, .., last] if pieces.len() > 4 => format!("{first}, ... {} in all ..., {last}", pieces.len()),
        _ => pieces.join(", "),
    }
}

/// The layer and expert that a parameter belongs to.
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

    /// A path without the layer that it stands under.
    fn short(&self, path: &str) -> String {
        let generic = self.generic(path);
        generic.strip_prefix("model.layers.N.").map(str::to_owned).unwrap_or(generic)
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
}

/// Lines in the order of their first layer; those of equal layers once, and equal lines of one layer (experts) counted.
fn by_layer(text: &mut String, lines: Vec<(Option<String>, String)>) {
    let first = lines.iter().position(|(layer, _)| layer.is_some()).unwrap_or(lines.len());
    let last = lines.iter().rposition(|(layer, _)| layer.is_some()).map_or(first, |last| last + 1);
    lines[..first].iter().for_each(|(_, outside)| line(text, outside));
    let mut layers: Vec<Vec<(String, usize)>> = Vec::new();
    for (layer, content) in &lines[first..last] {
        let index: usize = layer.as_ref().unwrap().parse().unwrap();
        layers.resize(layers.len().max(index + 1), Vec::new());
        match layers[index].iter_mut().find(|(known, _)| known == content) {
            Some((_, count)) => *count += 1,
            None => layers[index].push((content.clone(), 1)),
        }
    }
    for (lines, members) in alike(layers) {
        line(text, format_args!("layers N = {members}:"));
        for (content, count) in lines {
            let times = if count > 1 { format!("{count} x ") } else { String::new() };
            line(text, format_args!("  {times}{content}"));
        }
    }
    lines[last..].iter().for_each(|(_, outside)| line(text, outside));
}

/// Distinct entries with the indexes that have them: `0-4, 6-10`.
fn alike<T: PartialEq>(entries: Vec<Vec<T>>) -> Vec<(Vec<T>, String)> {
    let mut distinct: Vec<(Vec<T>, Vec<usize>)> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        match distinct.iter_mut().find(|(known, _)| *known == entry) {
            Some((_, members)) => members.push(index),
            None => distinct.push((entry, vec![index])),
        }
    }
    distinct.into_iter().map(|(entry, members)| (entry, ranges(&members))).collect()
}

fn ranges(members: &[usize]) -> String {
    let runs = members.chunk_by(|a, b| a + 1 == *b);
    let text = |run: &[usize]| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run[0].to_string(),
    };
    runs.map(text).collect::<Vec<_>>().join(", ")
}
