//! Files of weights that are missing, damaged, or of another model.

use super::{edit_shard, refusal};
use crate::support::{assert_says, checkpoint, copy_of, edit_json, load, message};
use automodel::generation::GenerationOptions;
use automodel::loader::QuantizationConfig;
use automodel::{AutoModel, AutoModelForCausalLM};
use safetensors::{SafeTensors, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SHARD: &str = "model-00002-of-00003.safetensors";

/// A copy of the sharded fixture, whose second shard is [`SHARD`].
fn sharded() -> tempfile::TempDir {
    let directory = copy_of("llama-sharded");
    assert!(directory.path().join(SHARD).is_file());
    directory
}

#[test]
fn a_missing_shard() {
    let directory = sharded();
    fs::remove_file(directory.path().join(SHARD)).unwrap();
    assert_says(&refusal(directory.path()), &[SHARD, "is missing", INDEX, "download it again"]);
}

#[test]
fn a_truncated_shard() {
    let directory = sharded();
    let file = File::options().write(true).open(directory.path().join(SHARD)).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 1).unwrap();
    let (found, needed) = (format!("has {} bytes", length - 1), format!("at least {length}"));
    assert_says(&refusal(directory.path()), &[SHARD, &found, &needed, "cut short", "download it again"]);
}

#[test]
fn an_empty_shard() {
    let directory = sharded();
    fs::write(directory.path().join(SHARD), []).unwrap();
    assert_says(&refusal(directory.path()), &[SHARD, "has 0 bytes", "empty or cut short", "download it again"]);
}

/// The refusal of the sharded fixture whose index names `file` for one tensor.
#[track_caller]
fn refusal_of_name(file: &str) -> String {
    let outside = sharded();
    let directory = outside.path().join("checkpoint");
    fs::create_dir(&directory).unwrap();
    for entry in fs::read_dir(outside.path()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    edit_json(&directory, INDEX, |index| index["weight_map"]["model.norm.weight"] = json!(file));
    refusal(&directory)
}

#[test]
fn an_index_that_names_an_absent_file() {
    let said = refusal_of_name("model-00009-of-00009.safetensors");
    assert_says(&said, &["model-00009-of-00009.safetensors", "is missing", INDEX, "download it again"]);
}

#[test]
fn an_index_that_names_an_absolute_file() {
    let said = refusal_of_name("/etc/hostname");
    assert_says(&said, &[INDEX, "\"/etc/hostname\"", "absolute path", "inside the checkpoint's directory"]);
}

#[test]
fn an_index_that_names_a_file_outside() {
    let said = refusal_of_name(&format!("../{SHARD}"));
    assert_says(&said, &[INDEX, &format!("\"../{SHARD}\""), "`..` part", "inside the checkpoint's directory"]);
}

/// The warnings of the sharded fixture with another index, which must change nothing else: transformers takes the names of
/// the shards from it, and what they hold from the shards.
fn warnings_with(edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    let directory = sharded();
    edit_json(directory.path(), INDEX, |index| edit(index["weight_map"].as_object_mut().unwrap()));
    let model = load(directory.path()).unwrap();
    let logits = |model: &AutoModel| model.logits(&[1, 2, 3]).unwrap().into_data().try_into_vec::<f32>().unwrap();
    assert!(logits(&model) == logits(&load(sharded().path()).unwrap()));
    model.report().unwrap().warnings.join("\n")
}

#[test]
fn an_index_that_names_the_wrong_shard() {
    let mut moved = String::new();
    let said = warnings_with(|map| {
        let (tensor, shard) = map.iter_mut().find(|(_, shard)| *shard == SHARD).unwrap();
        moved = format!("1 tensor(s) are in another shard than {INDEX} says, `{tensor}` first");
        *shard = json!("model-00001-of-00003.safetensors");
    });
    assert_says(&said, &[&moved]);
}

#[test]
fn an_index_with_a_tensor_that_no_shard_has() {
    let said = warnings_with(|map| {
        map.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), json!(SHARD));
    });
    assert_says(&said, &["1 tensor(s)", "`model.layers.0.self_attn.rotary_emb.inv_freq`", "in no shard"]);
    // One that is needed is missing, and the index is to blame.
    let directory = sharded();
    edit_json(directory.path(), "config.json", |config| config["num_hidden_layers"] = json!(3));
    let missing = "model.layers.2.mlp.up_proj.weight";
    edit_json(directory.path(), INDEX, |index| index["weight_map"][missing] = json!(SHARD));
    let blame = format!("`{missing}` (the index says that it is in {SHARD}");
    assert_says(&refusal(directory.path()), &["9 tensor(s) missing", &blame, "download both again"]);
}

/// Writes the tensor `from` of `directory` into a shard of its own, under the name `to`.
fn add_shard(directory: &Path, from: &str, to: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    const COPY: &str = "model-00004-of-00003.safetensors";
    let index: Value = serde_json::from_slice(&fs::read(directory.join(INDEX)).unwrap()).unwrap();
    let shard = index["weight_map"][from].as_str().unwrap();
    let bytes = fs::read(directory.join(shard)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(from).unwrap();
    let mut data = view.data().to_vec();
    edit(&mut data);
    let copy = TensorView::new(view.dtype(), view.shape().to_vec(), &data).unwrap();
    serialize_to_file([(to, copy)], None, &directory.join(COPY)).unwrap();
    edit_json(directory, INDEX, |index| index["weight_map"]["added"] = json!(COPY));
}

#[test]
fn a_tensor_in_two_shards() {
    let norm = "model.norm.weight";
    let directory = sharded();
    add_shard(directory.path(), norm, norm, |_| {});
    let model = load(directory.path()).unwrap();
    assert_says(&model.report().unwrap().warnings.join("\n"), &["in more than one shard", norm, "must be equal"]);

    let directory = sharded();
    add_shard(directory.path(), norm, norm, |bytes| bytes[1] ^= 1);
    let pretrained = || AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap());
    let out = directory.path().join("out");
    for said in [
        message(&load(directory.path()).unwrap_err()),
        message(&pretrained().quantize_checkpoint(&out, &QuantizationConfig::nf4(), &Default::default()).unwrap_err()),
    ] {
        assert_says(&said, &[norm, "with other values", "model-00004-of-00003.safetensors", "another checkpoint"]);
    }

    // Of another shape already the headers tell.
    let directory = sharded();
    add_shard(directory.path(), "model.layers.0.mlp.up_proj.weight", norm, |_| {});
    assert_says(&refusal(directory.path()), &[norm, "model-00004-of-00003.safetensors"]);

    // Tensors that nothing reads may differ.
    let directory = sharded();
    edit_json(directory.path(), "config.json", |config| config["num_hidden_layers"] = json!(1));
    let unread = "model.layers.1.mlp.up_proj.weight";
    add_shard(directory.path(), unread, unread, |bytes| bytes[1] ^= 1);
    load(directory.path()).unwrap();
}

#[test]
fn an_adapter_beside_the_model_is_named() {
    let directory = copy_of("llama");
    fs::write(directory.path().join("adapter_config.json"), r#"{"base_model_name_or_path": "org/base"}"#).unwrap();
    let model = load(directory.path()).unwrap();
    assert_says(&model.report().unwrap().warnings.join("\n"), &["adapter_config.json", "`org/base`", "not applied"]);
    let summary = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap()).inspect().unwrap();
    assert_says(&summary.warnings.join("\n"), &["adapter_config.json", "not applied"]);
}

#[test]
fn an_adapter_alone_is_called_one() {
    for (config, parts) in [
        (Some(r#"{"peft_type": "LORA", "base_model_name_or_path": "org/base"}"#), ["adapter (PEFT)", "`org/base`"]),
        (Some("not JSON"), ["adapter (PEFT)", "its base model"]),
        (None, ["adapter (PEFT)", "its base model"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("adapter_model.safetensors"), b"x").unwrap();
        if let Some(config) = config {
            fs::write(directory.path().join("adapter_config.json"), config).unwrap();
        }
        assert_says(&refusal(directory.path()), &parts);
        // Some adapters carry the config of their base.
        fs::copy(checkpoint("llama").join("config.json"), directory.path().join("config.json")).unwrap();
        assert_says(&refusal(directory.path()), &parts);
    }
}

#[test]
fn an_index_that_is_not_json() {
    let directory = sharded();
    fs::write(directory.path().join(INDEX), "{\"weight_map\": [1]}").unwrap();
    assert_says(&refusal(directory.path()), &[INDEX, "is not the index", "download it again"]);
}

#[test]
fn wrong_shapes_are_all_named() {
    let directory = copy_of("llama");
    edit_shard(directory.path(), FILE, |shard| {
        shard.header["model.layers.0.mlp.up_proj.weight"]["shape"] = json!([32, 48]);
        shard.header["model.norm.weight"]["shape"] = json!([4, 8]);
    });
    let said = refusal(directory.path());
    let parts = [
        directory.path().to_str().unwrap(),
        "does not fit the model",
        "2 tensor(s) of another shape",
        "`model.layers.0.mlp.up_proj.weight` is [32, 48] and should be [48, 32]",
        "`model.norm.weight` is [4, 8] and should be [32]",
    ];
    assert_says(&said, &parts);
}

#[test]
fn wrong_dtypes() {
    let directory = copy_of("llama");
    edit_shard(directory.path(), FILE, |shard| shard.header["lm_head.weight"]["dtype"] = json!("I32"));
    assert_says(&refusal(directory.path()), &["1 tensor(s)", "`lm_head.weight` is I32", "16-bit edition"]);
}

#[test]
fn missing_tensors_with_similar_names() {
    let directory = copy_of("llama");
    edit_shard(directory.path(), FILE, |shard| {
        let tensor = shard.header.remove("model.layers.1.self_attn.q_proj.weight").unwrap();
        shard.header.insert("model.layers.1.self_attn.query_proj.weight".to_owned(), tensor);
    });
    let parts = [
        "1 tensor(s) missing: `model.layers.1.self_attn.q_proj.weight`",
        "similar: `model.layers.1.self_attn.query_proj.weight`",
        "1 tensor(s) of the files are read by nothing",
    ];
    assert_says(&refusal(directory.path()), &parts);
}

#[test]
fn many_missing_tensors_are_counted() {
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| config["num_hidden_layers"] = json!(5));
    let said = refusal(directory.path());
    assert_says(&said, &["18 tensor(s) missing: `model.layers.3.self_attn.q_proj.weight`", "and 8 more"]);
}

#[test]
fn extra_tensors_are_reported() {
    let directory = copy_of("llama");
    edit_json(directory.path(), "config.json", |config| config["num_hidden_layers"] = json!(2));
    let model = load(directory.path()).unwrap();
    let report = model.report().unwrap();
    assert_eq!(report.unexpected.len(), 9);
    assert!(report.unexpected.iter().all(|tensor| tensor.starts_with("model.layers.2.")), "{:?}", report.unexpected);
    assert_says(&report.warnings.join("\n"), &["9 tensor(s)", "`model.layers.2.input_layernorm.weight`"]);
    assert_eq!(model.logits(&[1, 2]).unwrap().dims(), [2, 96]);
}

/// Puts NaN into the third value of a tensor.
fn put_nan(directory: &Path, tensor: &str, nan: &[u8]) {
    edit_shard(directory, FILE, |shard| {
        let start = shard.range(tensor).start + 2 * nan.len();
        shard.data[start..start + nan.len()].copy_from_slice(nan);
    });
}

fn assert_one_nan(model: &AutoModel, parameter: &str) {
    let [found] = model.report().unwrap().non_finite.as_slice() else { panic!("one parameter has a NaN") };
    assert_eq!((found.parameter.as_str(), found.count, found.first_index), (parameter, 1, 2));
}

#[test]
fn nan_weights_are_reported() {
    let directory = copy_of("llama");
    put_nan(directory.path(), "model.norm.weight", &f32::NAN.to_le_bytes());
    let model = AutoModelForCausalLM::from_pretrained(directory.path().to_str().unwrap()).check_finite(true).load();
    let model = model.unwrap();
    assert_one_nan(&model, "model.norm.weight");
    // A text made of them would be noise.
    let error = model.generate(&[vec![1].into()], &GenerationOptions::default(), &mut |_| ControlFlow::Continue(()));
    let said = message(&error.unwrap_err());
    assert_says(&said, &["logit of token 0 is NaN", "weights may be damaged"]);
}

#[test]
fn nan_weights_that_are_converted_are_reported_unasked() {
    let directory = copy_of("llama-bf16");
    put_nan(directory.path(), "model.norm.weight", &0x7FC0_u16.to_le_bytes());
    assert_one_nan(&load(directory.path()).unwrap(), "model.norm.weight");
}

#[test]
fn a_checkpoint_of_pickles_alone() {
    let directory = copy_of("llama");
    fs::rename(directory.path().join(FILE), directory.path().join("pytorch_model.bin")).unwrap();
    let said = refusal(directory.path());
    assert_says(&said, &["pytorch_model.bin", "PyTorch pickle", "save_pretrained", "safetensors"]);
}

#[test]
fn a_checkpoint_without_weights() {
    let directory = copy_of("llama");
    fs::remove_file(directory.path().join(FILE)).unwrap();
    let said = refusal(directory.path());
    assert_says(&said, &[directory.path().to_str().unwrap(), FILE, INDEX, "download the weights"]);
}

#[test]
fn quantised_checkpoints_are_refused_by_name() {
    let declared: [(Value, &str); 3] = [
        (json!({"quant_method": "gptq", "bits": 4, "group_size": 128}), "gptq"),
        (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), "bitsandbytes (8 bit)"),
        (json!({"quant_method": "invented"}), "invented"),
    ];
    for (quantization, name) in declared {
        let directory = copy_of("llama");
        edit_json(directory.path(), "config.json", |config| config["quantization_config"] = quantization);
        assert_says(&refusal(directory.path()), &[name, "cannot be read", "take the checkpoint that it was made from"]);
    }
}
