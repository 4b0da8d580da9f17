//! Whole checkpoints, read back with the safetensors library.

use super::*;
use safetensors::SafeTensors;
use std::collections::BTreeMap;

fn arguments(like: &str, out: &Path, overrides: &[&str], max_shard_size: u64, dtype: Dtype) -> Arguments {
    let overrides = overrides.iter().map(|text| (*text).to_owned()).collect();
    Arguments { like: like.to_owned(), out: out.to_owned(), dtype, max_shard_size, seed: 0, overrides, quiet: false }
}

/// Name, shape and bytes of every tensor of the checkpoint.
fn read(directory: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = fs::read(path).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let tensor = (view.shape().to_vec(), view.data().to_vec());
                assert!(tensors.insert(name, tensor).is_none(), "a tensor is in two shards");
            }
        }
    }
    tensors
}

fn json_file(directory: &Path, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(directory.join(name)).unwrap()).unwrap()
}

#[test]
fn shards_hold_the_same_tensors_as_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let (one, many) = (directory.path().join("one"), directory.path().join("many"));
    run(&arguments("qwen3-moe-tiny", &one, &[], u64::MAX, Dtype::Bfloat16)).unwrap();
    run(&arguments("qwen3-moe-tiny", &many, &[], 20_000, Dtype::Bfloat16)).unwrap();
    let (from_one, from_many) = (read(&one), read(&many));
    assert!(one.join("model.safetensors").is_file() && !many.join("model.safetensors").exists());
    assert_eq!(from_one, from_many);

    let index = json_file(&many, "model.safetensors.index.json");
    let weight_map = index["weight_map"].as_object().unwrap();
    assert!(weight_map.keys().all(|name| from_many.contains_key(name)) && weight_map.len() == from_many.len());
    let bytes: usize = from_many.values().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(index["metadata"]["total_size"], bytes);
    assert_eq!(index["metadata"]["total_parameters"], bytes / 2);
}

#[test]
fn norms_are_one_and_overrides_change_shapes() {
    let directory = tempfile::tempdir().unwrap();
    let overrides = ["hidden_size=96", "num_hidden_layers=1", "tie_word_embeddings=true"];
    let out = directory.path().join("out");
    run(&arguments("llama-tiny", &out, &overrides, u64::MAX, Dtype::Float32)).unwrap();
    let tensors = read(&out);
    assert_eq!(tensors["model.norm.weight"], (vec![96], 1_f32.to_le_bytes().repeat(96)));
    assert_eq!(tensors["model.layers.0.self_attn.k_proj.weight"].0, [48, 96]);
    assert!(!tensors.contains_key("lm_head.weight") && !tensors.contains_key("model.layers.1.mlp.up_proj.weight"));
    let config = json_file(&out, "config.json");
    assert_eq!((&config["hidden_size"], &config["dtype"]), (&json!(96), &json!("float32")));
}

#[test]
fn an_output_directory_with_files_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mine"), "").unwrap();
    let error = run(&arguments("llama-tiny", directory.path(), &[], 1_000_000, Dtype::Float32)).unwrap_err();
    assert!(error.to_string().contains("not empty"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn sizes_that_make_no_model_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for wrong in [
        "hidden_size=0",
        "hidden_size=-1",
        "hidden_size=1e30",
        "hidden_size=65",
        "num_key_value_heads=3",
        "vocab_size=10",
        "num_hidden_layers=1000000",
        "model_type=gpt2",
    ] {
        let result = run(&arguments("llama-tiny", &directory.path().join("out"), &[wrong], 1_000_000, Dtype::Float32));
        assert!(result.is_err(), "{wrong}");
        assert!(!directory.path().join("out").exists(), "{wrong}: nothing is written");
    }
}

#[test]
fn llama_1b_has_the_size_of_tinyllama_in_five_shards() {
    let config = config::build("llama-1b", &[], Dtype::Bfloat16).unwrap();
    let tensors = layout::tensors(&config).unwrap();
    let shards = shards::cut(&tensors, Dtype::Bfloat16, 500_000_000).unwrap();
    assert_eq!(totals(&shards, Dtype::Bfloat16).0, 1_100_048_384);
    assert_eq!(shards.len(), 5);
}

#[test]
fn every_preset_has_a_layout_and_the_tokens_of_the_tokenizer() {
    for name in presets::names() {
        let config = config::build(name, &[], Dtype::Bfloat16).unwrap();
        assert!(!layout::tensors(&config).unwrap().is_empty(), "{name}");
        assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(256), &json!(257)), "{name}");
    }
}
