//! `fixtures/results.json`: what was measured of each fixture. `cargo xtask supported-models` makes a document of it.
//!
//! With `AUTOMODEL_WRITE_RESULTS=missing` fixtures that the file lacks are measured and written, with `all` every one. Without it
//! the file must have the families of the registry and the fixtures, no more and no fewer; parity itself is tested elsewhere.

use crate::quantized::decoded;
use crate::support::{Reference, check_all, checkpoint, checkpoints, distance, fixture};
use automodel::loader::QuantizationConfig;
use automodel::models::{CacheOptions, CausalLm, LogitsFor, TokenBatch};
use automodel::quant::Scheme;
use automodel::registry::{Implementation, Registry};
use automodel::{AutoModel, AutoModelForCausalLM, Dtype};
use automodel_test_support::fixtures::WITHOUT_CAPTURED_STEPS;
use serde_json::{Map, Value, json};
use std::fs;
use std::sync::Mutex;

const FILE: &str = "results.json";
const WRITE: &str = "AUTOMODEL_WRITE_RESULTS";

#[test]
fn results_are_those_of_these_families_and_fixtures() {
    let path = fixture(FILE);
    let mut results: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    if let Ok(which) = std::env::var(WRITE) {
        assert!(["missing", "all"].contains(&which.as_str()), "{WRITE} is `missing` or `all`, not {which:?}");
        let known = results["fixtures"].as_object().cloned().unwrap_or_default();
        results =
            json!({ "families": families(), "fixtures": measured(if which == "all" { Map::new() } else { known }) });
        fs::write(&path, text(&results)).unwrap();
    }
    let advice = format!("write them with `{WRITE}=missing cargo test --workspace --test journeys results`");
    assert_eq!(results["families"], Value::Object(families()), "families are stale: {advice}");
    let known: Vec<&String> = results["fixtures"].as_object().unwrap().keys().collect();
    assert_eq!(known, checkpoints().iter().collect::<Vec<_>>(), "fixtures are stale: {advice}");
}

fn families() -> Map<String, Value> {
    let registry = Registry::builtin();
    let row = |family: &automodel::registry::Family| {
        let steps = !WITHOUT_CAPTURED_STEPS.contains(&family.model_type);
        (family.model_type.to_owned(), json!({ "architectures": family.architectures, "captured_steps": steps }))
    };
    registry.families().map(row).collect()
}

/// A row for each fixture, those of `known` as they are.
fn measured(mut known: Map<String, Value>) -> Map<String, Value> {
    let names = checkpoints();
    known.retain(|name, _| names.contains(name));
    let missing: Vec<&String> = names.iter().filter(|name| !known.contains_key(*name)).collect();
    let rows = Mutex::new(known);
    check_all(&missing, |name| {
        let row = measure(name);
        rows.lock().unwrap().insert((*name).clone(), row);
        Ok(())
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_keys();
    rows
}

fn measure(name: &str) -> Value {
    let directory = checkpoint(name);
    let source = || AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).dtype(Dtype::Float32);
    let reference = Reference::read(name);
    let dense = source().load().unwrap();
    let quantized = source().quantize(QuantizationConfig::nf4()).load().unwrap();
    let streamed = quantized.report().unwrap().encodings.iter().any(|encoding| encoding.parameters > 0);

    let decoder = decoded(&dense, Scheme::nf4());
    let batch = TokenBatch::new(&[&reference.tokens], decoder.vocab_size()).unwrap();
    let mut cache = decoder.new_cache(&CacheOptions::default());
    let expected = decoder.forward(&batch, LogitsFor::All, &mut cache).unwrap();
    let expected = expected.into_data().try_into_vec::<f32>().unwrap();
    let implementation = match &dense.prepared().resolution.implementation {
        Implementation::Generic { .. } => "generic decoder",
        _ => "custom",
    };
    let float32 = distance(&reference.logits, &logits(&dense, &reference));
    assert!(float32 < 1e-3, "{name}: {float32}");
    json!({
        "model_type": dense.prepared().resolution.model_type,
        "implementation": implementation,
        "float32": rounded(float32),
        "nf4": rounded(distance(&expected, &logits(&quantized, &reference))),
        "streamed_4_bit": streamed,
    })
}

fn logits(model: &AutoModel, reference: &Reference) -> Vec<f32> {
    model.logits(&reference.tokens).unwrap().into_data().try_into_vec().unwrap()
}

/// One digit: more would be other on each processor.
fn rounded(deviation: f64) -> Value {
    format!("{deviation:.0e}").parse::<f64>().unwrap().into()
}

/// A row on each line.
fn text(results: &Value) -> String {
    let section = |name: &str| {
        let rows = results[name].as_object().unwrap().iter();
        let rows: Vec<String> = rows.map(|(key, row)| format!("{}: {row}", Value::from(key.as_str()))).collect();
        format!("\"{name}\": {{\n{}\n}}", rows.join(",\n"))
    };
    format!("{{\n{},\n{}\n}}\n", section("families"), section("fixtures"))
}
