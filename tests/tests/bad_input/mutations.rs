//! Every key of real configs with every kind of nonsense: whatever is not refused must run.

use crate::support::{check_all, copy_of, load};
use serde_json::{Value, json};
use std::fs;

/// Fixtures whose configs have many different keys between them.
const FIXTURES: [&str; 8] = [
    "cohere2-v4",
    "exaone4",
    "gemma3_text-v4",
    "gpt2",
    "llama-yarn-options",
    "phi3-longrope",
    "qwen2_moe-mixed",
    "stablelm-parallel",
];

fn nonsense() -> Vec<Value> {
    let numbers =
        [json!(-1), json!(0), json!(1), json!(3), json!(0.5), json!(1_u64 << 40), json!(u64::MAX), json!(1e300)];
    let others = [Value::Null, json!(true), json!("x"), json!([]), json!([-1]), json!({}), json!({"x": 1})];
    numbers.into_iter().chain(others).collect()
}

/// Dotted keys of an object, one level down.
fn keys(config: &Value) -> Vec<String> {
    let own = config.as_object().unwrap().iter();
    own.flat_map(|(key, value)| {
        let inner = value.as_object().into_iter().flatten().map(move |(inner, _)| format!("/{key}/{inner}"));
        std::iter::once(format!("/{key}")).chain(inner)
    })
    .collect()
}

#[test]
fn nonsense_in_a_config_never_panics() {
    check_all(&FIXTURES, |name| {
        let directory = copy_of(name);
        let path = directory.path().join("config.json");
        let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut refused = 0;
        for key in keys(&config) {
            for value in nonsense() {
                let mut changed = config.clone();
                *changed.pointer_mut(&key).unwrap() = value.clone();
                fs::write(&path, changed.to_string()).unwrap();
                let run = || load(directory.path()).and_then(|model| model.logits(&[5, 6, 7]));
                match std::panic::catch_unwind(run) {
                    Ok(outcome) => refused += usize::from(outcome.is_err()),
                    Err(_) => return Err(format!("panics where {key} is {value}")),
                }
            }
        }
        // Most nonsense is refused; were none, nothing would have been tried.
        if refused > 100 { Ok(()) } else { Err(format!("only {refused} configs were refused")) }
    });
}
