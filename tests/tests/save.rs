//! Every checkpoint fixture saved and read back: the same numbers, and nothing lost on the way.

use crate::support::{Reference, assert_says, check_all, checkpoint, checkpoints, load, message};
use automodel::loader::{QuantizationConfig, RequantizeOptions, SaveOptions};
use automodel::{AutoModel, AutoModelForCausalLM, Dtype};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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
    // Even with overwriting allowed, a directory that is not a checkpoint is refused.
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

/// All files below a directory but the weights, by their path in it.
fn beside_weights(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let inner = beside_weights(&entry.path()).into_iter();
            files.extend(inner.map(|(inner, text)| (format!("{name}/{inner}"), text)));
        } else if !name.contains(".safetensors") && name != "config.json" {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn the_same_files_go_with_saved_and_quantised_weights() {
    let source = crate::support::copy_of("llama");
    fs::create_dir(source.path().join("additional_chat_templates")).unwrap();
    let go = ["chat_template.jinja", "other.jinja", "processor_config.json", "preprocessor_config.json", "dict.txt"];
    for name in go.into_iter().chain(["additional_chat_templates/tool_use.jinja"]) {
        fs::write(source.path().join(name), name).unwrap();
    }
    let mut expected = beside_weights(source.path());
    assert!(expected.contains_key("generation_config.json"));
    for name in ["modeling_llama.py", "README.md", "pytorch_model.bin", "additional_chat_templates/notes.txt"] {
        fs::write(source.path().join(name), name).unwrap();
    }
    let parent = tempfile::tempdir().unwrap();
    let (saved, quantised) = (parent.path().join("saved"), parent.path().join("quantised"));
    load(source.path()).unwrap().save_pretrained(&saved, &SaveOptions::default()).unwrap();
    let model = AutoModelForCausalLM::from_pretrained(source.path().to_str().unwrap());
    model.quantize_checkpoint(&quantised, &QuantizationConfig::nf4(), &RequantizeOptions::default()).unwrap();
    expected.retain(|name, _| name != "reference.safetensors");
    assert_eq!(beside_weights(&saved), expected);
    assert_eq!(beside_weights(&quantised), expected);
    // Its folder of templates does not keep a checkpoint from being replaced.
    let mut overwrite = SaveOptions::default();
    overwrite.overwrite = true;
    load(&saved).unwrap().save_pretrained(&saved, &overwrite).unwrap();
    assert_eq!(beside_weights(&saved), expected);
}

#[test]
fn values_too_large_for_float16_are_counted() {
    let source = crate::support::copy_of("llama-bf16");
    // The first value of the first tensor in the file.
    let file = source.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..][..2].copy_from_slice(&0x4780u16.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let model = load(source.path()).unwrap();
    assert_eq!(model.report().unwrap().non_finite, []);
    let save = |dtype: Option<Dtype>| {
        let mut options = SaveOptions::default();
        options.dtype = dtype.and_then(Dtype::float);
        model.save_pretrained(&parent.path().join(format!("{dtype:?}")), &options).unwrap()
    };
    assert_eq!(save(None).overflowed, []);
    let report = save(Some(Dtype::Float16));
    assert_eq!((report.overflowed.len(), report.overflowed[0].count, report.overflowed[0].first_index), (1, 1, 0));
    assert_says(&report.warnings.join(" "), &[&report.overflowed[0].parameter, "infinite", "bfloat16"]);
    let narrow = AutoModelForCausalLM::from_pretrained(source.path().to_str().unwrap()).dtype(Dtype::Float16).load();
    let narrow = narrow.unwrap().report().unwrap().non_finite.clone();
    assert_eq!((narrow.len(), narrow[0].count, narrow[0].overflowed), (1, 1, 1));
}
