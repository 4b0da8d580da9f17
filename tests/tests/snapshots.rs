//! The conclusions of each stage from every fixture, as snapshots: one file for a fixture, one section for a stage.
//!
//! `INSTA_UPDATE=always cargo test -p automodel-tests snapshots` writes them anew; review the changes before committing.

use crate::render::render;
use crate::sparse::SparseCheckpoint;
use automodel::AutoModelForCausalLM;
use std::fs;
use std::path::Path;

/// Conclusions from the checkpoint in `directory`, whose config is `file`.
fn text(directory: &str, file: &Path) -> String {
    let summary = AutoModelForCausalLM::from_pretrained(directory).inspect().unwrap();
    render(&summary, &serde_json::from_slice(&fs::read(file).unwrap()).unwrap())
}

fn assert_snapshot(kind: &str, text: &str) {
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(kind, text) });
}

#[test]
fn checkpoints() {
    insta::glob!("../fixtures/checkpoints", "*/config.json", |path| {
        assert_snapshot("checkpoint", &text(path.parent().unwrap().to_str().unwrap(), path));
    });
}

/// Config files alone: their weights are a file of the right header and length that occupies no disk.
#[test]
fn configs() {
    insta::glob!("../fixtures/configs", "*.json", |path| {
        assert_snapshot("config", &text(SparseCheckpoint::of_config(path).path(), path));
    });
}
