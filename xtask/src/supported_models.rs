//! `cargo xtask supported-models`: `docs/supported-models.md` from the results of the tests, and the count in the README.

use crate::{Result, workspace_root};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// What the tests measured; `tests/tests/results.rs` writes it and checks that it has all families and fixtures.
const RESULTS: &str = "tests/fixtures/results.json";
const DOCUMENT: &str = "docs/supported-models.md";
const README: &str = "README.md";
/// What follows the count in the README.
const COUNTED: &str = " model types";

const HEAD: &str = "\
# Supported models

Made by `cargo xtask supported-models` from `tests/fixtures/results.json`, which the tests write; do not edit it.

Each model type is computed by a decoder that is built from a specification of its mathematics, and has fixtures: tiny checkpoints with random
weights and logits of transformers in float32. The columns:

- *float32*: largest deviation of our logits from those of transformers, over all fixtures, in standard deviations of the logits. Tests allow 1e-4.
- *NF4*: largest deviation of the model whose projections were quantised to NF4 while they were loaded from the model with the same
  weights decoded to float32.
- *4-bit streaming*: projections are quantised while they stream from the files; the full-precision model is never in memory.
- *captured steps*: on NVIDIA GPUs a decode step is captured once and replayed. Other families decode launch by launch.

";

/// Writes the document, and the count into the README.
pub fn run() -> Result<()> {
    let root = workspace_root();
    let results = read(&root)?;
    fs::write(root.join(DOCUMENT), document(&results)?)?;
    let readme = fs::read_to_string(root.join(README))?;
    fs::write(root.join(README), with_count(&readme, families(&results)?.len()))?;
    Ok(())
}

/// A finding for each file that is stale.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let results = read(root)?;
    let mut findings = Vec::new();
    let advice = "run `cargo xtask supported-models`";
    if fs::read_to_string(root.join(DOCUMENT)).unwrap_or_default() != document(&results)? {
        findings.push(format!("{DOCUMENT} is stale: {advice}"));
    }
    let readme = fs::read_to_string(root.join(README))?;
    let count = families(&results)?.len();
    if with_count(&readme, count) != readme || !readme.contains(&format!("{count}{COUNTED}")) {
        findings.push(format!("{README} has another number of model types than {count}: {advice}"));
    }
    Ok(findings)
}

fn read(root: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(root.join(RESULTS))?)?)
}

fn families(results: &Value) -> Result<&Map<String, Value>> {
    results["families"].as_object().ok_or_else(|| format!("{RESULTS} has no families").into())
}

fn document(results: &Value) -> Result<String> {
    let fixtures = results["fixtures"].as_object().ok_or("no fixtures")?;
    let families = families(results)?;
    let mut text = HEAD.to_owned();
    text.push_str(&format!("{} model types, {} fixtures.\n\n", families.len(), fixtures.len()));
    text.push_str("| model type | architectures | implementation | fixtures | float32 | NF4 | 4-bit streaming | captured steps |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for (model_type, family) in families {
        let own: Vec<(&String, &Value)> =
            fixtures.iter().filter(|(_, row)| row["model_type"] == **model_type).collect();
        let worst = |key: &str| {
            let values = own.iter().filter_map(|(_, row)| row[key].as_f64());
            values.reduce(f64::max).map_or("-".to_owned(), |worst| format!("{worst:.0e}"))
        };
        let architectures = family["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let streamed = own.iter().any(|(_, row)| row["streamed_4_bit"] == true);
        let implementation = own.first().and_then(|(_, row)| row["implementation"].as_str()).unwrap_or("-");
        let cells = [
            format!("`{model_type}`"),
            architectures.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
            implementation.to_owned(),
            own.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
            worst("float32"),
            worst("nf4"),
            yes_or_no(streamed).to_owned(),
            yes_or_no(family["captured_steps"] == true).to_owned(),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    Ok(text)
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// The text with `count` in place of each number before [`COUNTED`].
fn with_count(text: &str, count: usize) -> String {
    let mut parts = text.split(COUNTED).peekable();
    let mut counted = String::new();
    while let Some(part) = parts.next() {
        let words = part.trim_end_matches(|character: char| character.is_ascii_digit());
        let is_counted = words.len() < part.len() && parts.peek().is_some();
        counted.push_str(if is_counted { words } else { part });
        if is_counted {
            counted.push_str(&count.to_string());
        }
        if parts.peek().is_some() {
            counted.push_str(COUNTED);
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn results() -> Value {
        let row = |float32: f64| json!({ "model_type": "llama", "implementation": "generic decoder", "float32": float32, "nf4": 2e-6, "streamed_4_bit": true });
        json!({
            "families": {
                "llama": { "architectures": ["LlamaForCausalLM"], "captured_steps": true },
                "new": { "architectures": [], "captured_steps": false },
            },
            "fixtures": { "llama": row(1e-6), "llama-v4": row(3e-6) },
        })
    }

    #[test]
    fn a_family_has_its_fixtures_and_their_worst_deviation() {
        let text = document(&results()).unwrap();
        let row = "| `llama` | `LlamaForCausalLM` | generic decoder | llama, llama-v4 | 3e-6 | 2e-6 | yes | yes |\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| `new` |  | - |  | - | - | no | no |\n"), "{text}");
        assert!(text.contains("\n2 model types, 2 fixtures.\n"), "{text}");
    }

    #[test]
    fn stale_files_are_found() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["docs", "tests/fixtures"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
        write(RESULTS, &results().to_string());
        write(DOCUMENT, &document(&results()).unwrap());
        write(README, "It has 2 model types.");
        assert_eq!(check(root.path()).unwrap(), [""; 0]);
        write(README, "It has 3 model types.");
        assert!(check(root.path()).unwrap()[0].contains("another number"));
        write(README, "It has many.");
        write(DOCUMENT, "");
        assert_eq!(check(root.path()).unwrap().len(), 2);
    }

    #[test]
    fn every_count_is_replaced_and_nothing_else() {
        assert_eq!(
            with_count("48 model types, **7 model types**, no model types", 5),
            "5 model types, **5 model types**, no model types"
        );
        assert_eq!(with_count("36 classes; ends in 12", 5), "36 classes; ends in 12");
    }
}
