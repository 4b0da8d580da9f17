//! Conclusions as text that a person can review: values that differ from a default, and equal layers once.
//!
//! Everything is made from serialised values, so that a new field shows only where it has another value than its default.

mod collapse;
mod compact;
mod parameters;

use automodel::Summary;
use automodel::config::Origin;
use serde_json::Value;
use std::collections::BTreeMap;

/// All stages, one section each. `file` is the config file that the summary is about.
pub fn render(summary: &Summary, file: &Value) -> String {
    let prepared = &summary.prepared;
    let (written, concluded): (Vec<_>, Vec<_>) = prepared
        .config
        .describe()
        .into_iter()
        .partition(|(key, value, origin)| *origin == Origin::File && is_written(file, key, value));
    let mut config = vec![format!("{} values as in the file", written.len())];
    for (origin, values) in by_origin(concluded) {
        config.push(format!("{origin}:"));
        config.extend(compact::wrapped(1, &values));
    }
    config.extend(prepared.config.warnings().iter().map(|warning| format!("warning: {warning}")));

    let spec = serde_json::to_value(prepared.lowered.spec.as_ref().unwrap()).unwrap();
    let weights = serde_json::to_value(&prepared.lowered.weights).unwrap();
    let plan = serde_json::to_value(&summary.plan).unwrap();
    let resolution = [&prepared.resolution.reason].into_iter().chain(&prepared.resolution.remark).cloned().collect();
    let sections = [("config", config), ("resolution", resolution)];
    text(sections.into_iter().chain(concluded_sections(spec, weights, plan)))
}

/// Sections of a spec, a weight map and a load plan.
fn concluded_sections(spec: Value, mut weights: Value, mut plan: Value) -> [(&'static str, Vec<String>); 4] {
    let slots = weights["parameters"].take();
    let rows = plan["rows"].take();
    [
        ("spec", compact::lines(&spec)),
        ("parameters", parameters::table(slots, rows)),
        ("weight map", compact::lines(&weights)),
        ("load plan", compact::lines(&plan)),
    ]
}

fn text(sections: impl IntoIterator<Item = (&'static str, Vec<String>)>) -> String {
    let texts = sections.into_iter().map(|(title, lines)| format!("# {title}\n{}\n", lines.join("\n")));
    texts.collect::<Vec<_>>().join("\n")
}

/// `key: value` under where the values came from.
fn by_origin(values: Vec<(String, Value, Origin)>) -> BTreeMap<String, Vec<String>> {
    let mut origins: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value, origin) in values {
        origins.entry(origin.to_string()).or_default().push(format!("{key}: {value}"));
    }
    origins
}

/// Whether the file has the value under the dotted key, or under that key of its text model.
fn is_written(file: &Value, key: &str, value: &Value) -> bool {
    let places = [Some(file), file.get("text_config")];
    places.into_iter().flatten().any(|place| {
        let found = key.split('.').try_fold(place, |value, segment| value.get(segment));
        found.or_else(|| place.get(key)) == Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{check_all, checkpoint};
    use automodel::AutoModelForCausalLM;
    use serde_json::json;

    /// Changed values of each checkpoint, spread over all layers and parameters.
    const VALUES: usize = 100;

    /// Whatever is concluded of a real checkpoint: if it is another value, the text is another.
    #[test]
    fn every_value_shows() {
        // Equal layers, two kinds of layers, fused tensors, transposed ones, experts, shards.
        let names = ["llama-tied", "gemma3_text", "gpt_neox", "gpt2-bare", "qwen3_moe-sharded"];
        check_all(&names, |name| {
            let directory = checkpoint(name);
            let summary = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).inspect().unwrap();
            let mut stages = json!({
                "spec": summary.prepared.lowered.spec, "weights": summary.prepared.lowered.weights, "plan": summary.plan,
            });
            let mut paths = Vec::new();
            leaves(&stages, String::new(), &mut paths);
            // Names of parameters are the order of the table.
            paths.retain(|path| {
                !(path.ends_with("/path") || path.starts_with("/plan/rows/") && path.ends_with("/parameter"))
            });
            if paths.len() < VALUES {
                return Err(format!("only {} values", paths.len()));
            }
            let whole = rendered(&stages);
            for path in paths.iter().step_by(paths.len() / VALUES) {
                let place = stages.pointer_mut(path).unwrap();
                let changed = other(place);
                let before = std::mem::replace(place, changed);
                if rendered(&stages) == whole {
                    return Err(format!("{path} does not show: {before}"));
                }
                *stages.pointer_mut(path).unwrap() = before;
            }
            Ok(())
        });
    }

    fn rendered(stages: &Value) -> String {
        text(concluded_sections(stages["spec"].clone(), stages["weights"].clone(), stages["plan"].clone()))
    }

    fn leaves(value: &Value, path: String, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| leaves(value, format!("{path}/{key}"), found))
            }
            Value::Array(values) if !values.is_empty() => {
                values.iter().enumerate().for_each(|(index, value)| leaves(value, format!("{path}/{index}"), found));
            }
            _ => found.push(path),
        }
    }

    fn other(value: &Value) -> Value {
        match value {
            Value::Null => json!(7),
            Value::Bool(value) => json!(!value),
            Value::Number(number) => number.as_u64().map_or(json!(0.125), |number| json!(number + 1)),
            Value::String(text) => json!(format!("{text}x")),
            _ => json!(["x"]),
        }
    }
}
