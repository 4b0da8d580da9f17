//! What each stage concludes from every fixture, as snapshots: one file for a fixture, one section for a stage.
//!
//! `INSTA_UPDATE=always cargo test -p automodel-tests snapshots` writes them anew; look at what changed before committing.

use crate::render::render;
use crate::sparse::SparseCheckpoint;
use automodel::AutoModelForCausalLM;

#[test]
fn checkpoints() {
    insta::glob!("../fixtures/checkpoints", "*/config.json", |path| {
        let directory = path.parent().unwrap().to_str().unwrap();
        let summary = AutoModelForCausalLM::from_pretrained(directory).inspect().unwrap();
        insta::assert_snapshot!("checkpoint", render(&summary));
    });
}

/// Config files alone: their weights are a file of the right header and length that occupies no disk.
#[test]
fn configs() {
    insta::glob!("../fixtures/configs", "*.json", |path| {
        let checkpoint = SparseCheckpoint::of_config(path);
        let summary = AutoModelForCausalLM::from_pretrained(checkpoint.path()).inspect().unwrap();
        insta::assert_snapshot!("config", render(&summary));
    });
}
