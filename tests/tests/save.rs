//! Every checkpoint fixture saved and read back: the same numbers, and nothing lost on the way.

use crate::support::{Reference, assert_says, check_all, checkpoint, checkpoints, load, message};
use automodel::AutoModel;
use automodel::loader::SaveOptions;
use std::fs;

fn logits(model: &AutoModel, tokens: &[u32]) -> Vec<f32> {
    model.logits(tokens).unwrap().into_data().try_into_vec().unwrap()
}

#[test]
fn what_was_saved_computes_the_same() {
    check_all(&checkpoints(), |name| {
        let model = load(&checkpoint(name)).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let copy = parent.path().join("copy");
        model.save_pretrained(&copy, &SaveOptions::default()).map_err(|error| message(&error))?;
        let again = load(&copy).map_err(|error| message(&error))?;
        let report = again.report().unwrap();
        if !report.unexpected.is_empty() || again.tied() != model.tied() {
            return Err(format!("unexpected {:?}, tied {:?}", report.unexpected, again.tied()));
        }
        let tokens = Reference::read(name).tokens;
        let same = logits(&again, &tokens) == logits(&model, &tokens);
        if same { Ok(()) } else { Err("logits differ".to_owned()) }
    });
}

#[test]
fn several_shards_make_the_same_model() {
    let model = load(&checkpoint("qwen3_moe")).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let copy = parent.path().join("copy");
    let mut options = SaveOptions::default();
    options.max_shard_bytes = 40_000;
    let report = model.save_pretrained(&copy, &options).unwrap();
    assert!(report.shards.len() > 2, "{:?}", report.shards);
    assert!(copy.join("model.safetensors.index.json").is_file());
    let tokens = Reference::read("qwen3_moe").tokens;
    assert_eq!(logits(&load(&copy).unwrap(), &tokens), logits(&model, &tokens));
}

#[test]
fn an_output_directory_that_exists_is_left_as_it_is() {
    let model = load(&checkpoint("llama")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
    let said = message(&model.save_pretrained(directory.path(), &SaveOptions::default()).unwrap_err());
    assert_says(&said, &[directory.path().to_str().unwrap(), "exists", "not empty"]);
    // Asked to overwrite, it still takes no directory that is no checkpoint.
    let mut overwrite = SaveOptions::default();
    overwrite.overwrite = true;
    let said = message(&model.save_pretrained(directory.path(), &overwrite).unwrap_err());
    assert_says(&said, &[directory.path().to_str().unwrap(), "exists"]);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.txt"]);
    assert_eq!(fs::read_to_string(directory.path().join("thesis.txt")).unwrap(), "years of work");
}

#[test]
fn a_file_where_the_output_directory_belongs() {
    let model = load(&checkpoint("llama")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("output");
    fs::write(&path, "a file").unwrap();
    let said = message(&model.save_pretrained(&path, &SaveOptions::default()).unwrap_err());
    assert_says(&said, &[path.to_str().unwrap(), "exists"]);
    assert_eq!(fs::read_to_string(path).unwrap(), "a file");
}

#[test]
fn a_checkpoint_is_replaced_on_request_even_by_its_own_model() {
    let directory = crate::support::copy_of("llama-sharded");
    let model = load(directory.path()).unwrap();
    let tokens = Reference::read("llama-sharded").tokens;
    let before = logits(&model, &tokens);
    let mut overwrite = SaveOptions::default();
    overwrite.overwrite = true;
    // Its weights are mapped from the very files that are replaced.
    model.save_pretrained(directory.path(), &overwrite).unwrap();
    assert_eq!(logits(&model, &tokens), before);
    assert_eq!(logits(&load(directory.path()).unwrap(), &tokens), before);
    assert!(!directory.path().join("model.safetensors.index.json").exists(), "the old index is gone");
}
