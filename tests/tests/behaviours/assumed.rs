//! A checkpoint of an unsupported model type: the families whose mathematics comes nearest, and one of them assumed.

use super::{fixture, logits};
use crate::support::{assert_says, copy_of, edit_json, edit_tensors, message};
use automodel::{AutoModelForCausalLM, FromPretrained};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// A fixture under a model type that nobody knows, with a change of its config.
fn unknown(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let directory = copy_of(name);
    edit_json(directory.path(), "config.json", |config| {
        config["model_type"] = json!("novel");
        config["architectures"] = json!(["NovelForCausalLM"]);
        change(config);
    });
    directory
}

fn builder(directory: &Path) -> FromPretrained {
    AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap())
}

fn refusal(directory: &Path) -> String {
    message(&builder(directory).inspect().unwrap_err())
}

#[test]
fn the_nearest_families_are_those_with_its_tensors_and_keys() {
    for name in ["llama", "gpt2", "phi3", "qwen3", "mixtral", "olmo2", "gemma2", "opt"] {
        let said = refusal(unknown(name, |_| {}).path());
        let (_, nearest) = said.split_once("nearest by tensors and config keys: ").unwrap_or_else(|| panic!("{said}"));
        // Families of other mathematics may have the same tensors and keys.
        let own = nearest.split(';').find(|near| near.contains(&format!("`{name}`")));
        assert!(
            own.is_some_and(|own| own.contains("(all ") && own.contains("tensors, all config keys")),
            "{name}: {nearest}"
        );
    }
}

#[test]
fn what_differs_is_said() {
    let directory = unknown("llama", |config| config["score_multiplier"] = json!(2.0));
    assert_says(&refusal(directory.path()), &["`llama`", "(all 30 tensors, not the config keys `score_multiplier`)"]);
    edit_tensors(directory.path(), |tensors| {
        let norm = tensors.remove("model.norm.weight").unwrap();
        tensors.insert("model.other.weight".to_owned(), norm);
    });
    assert_says(&refusal(directory.path()), &["`llama`", "(29 of 30 tensors, and 1 more, not"]);
}

#[test]
fn names_that_look_alike_are_not_near() {
    // With no tensor in common.
    let directory = unknown("llama", |config| config["model_type"] = json!("llama_next"));
    edit_tensors(directory.path(), |tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (format!("x.{name}"), tensor)).collect();
    });
    assert!(!refusal(directory.path()).contains("nearest"), "{}", refusal(directory.path()));
}

#[test]
fn an_assumed_family_computes_and_every_report_says_so() {
    let directory = unknown("llama", |_| {});
    let builder = || builder(directory.path()).assume_model_type("llama");
    let summary = builder().inspect().unwrap();
    let resolution = &summary.resolution;
    let warning = resolution.assumption().unwrap();
    assert!(warning.starts_with("ASSUMED: model type `novel` is computed as `llama`"), "{warning}");
    assert_eq!((resolution.reason.as_str(), resolution.model_type.as_str()), (warning.as_str(), "novel"));
    assert!(summary.warnings.contains(&warning) && summary.plan.warnings.contains(&warning));

    let model = builder().load().unwrap();
    assert_eq!(logits(&model), logits(&fixture("llama").load().unwrap()));
    assert!(model.report().unwrap().warnings.contains(&warning));
    let parent = tempfile::tempdir().unwrap();
    let saved = parent.path().join("saved");
    let report = model.save_pretrained(&saved, &Default::default()).unwrap();
    assert!(report.warnings.contains(&warning));
    // What is saved is what it was.
    assert_says(&refusal(&saved), &["model type `novel`"]);
}

#[test]
fn an_assumption_excuses_no_key_and_no_tensor() {
    let said = |directory: &TempDir, model_type: &str| {
        message(&builder(directory.path()).assume_model_type(model_type).load().unwrap_err())
    };
    let directory = unknown("llama", |config| config["score_multiplier"] = json!(2.0));
    assert_says(&said(&directory, "llama"), &["score_multiplier", "unread"]);
    let directory = unknown("llama", |config| {
        config.as_object_mut().unwrap().remove("mlp_bias");
    });
    assert_says(&said(&directory, "qwen3"), &["q_norm.weight"]);
    assert_says(&said(&directory, "lama"), &["`lama` cannot be assumed", "misspelling of llama"]);
}

#[test]
fn a_supported_model_type_assumed_is_nothing_new() {
    let summary = fixture("llama").assume_model_type("llama").inspect().unwrap();
    assert_eq!(summary.resolution.assumption(), None);
    // A Mistral with layer types is a Ministral, assumed or not.
    let summary = builder(unknown("ministral", |_| {}).path()).assume_model_type("mistral").inspect().unwrap();
    assert_eq!(summary.resolution.assumed.as_deref(), Some("ministral"));
}
