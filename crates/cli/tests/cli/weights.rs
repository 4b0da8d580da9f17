//! `automodel logits`, `automodel save` and `automodel quantize`.

use crate::run::{Ran, automodel, copy_of_demo, fixture};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// A float32 tensor of a file: its shape and values.
fn tensor(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32);
    let values = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    (tensor.shape().to_vec(), values.collect())
}

/// The token ids of a fixture's reference, as `--tokens` takes them.
fn reference_tokens(reference: &Path) -> String {
    let bytes = std::fs::read(reference).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("input_ids").unwrap();
    let ids = ids.data().chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()).to_string());
    ids.collect::<Vec<_>>().join(",")
}

#[test]
fn logits_are_those_of_transformers() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.safetensors");
    for model in ["llama", "mixtral"] {
        let model = fixture(model);
        let reference = Path::new(&model).join("reference.safetensors");
        let (shape, expected) = tensor(&reference, "logits");
        let tokens = reference_tokens(&reference);
        let out = out.to_str().unwrap();
        automodel(&["logits", &model, "--tokens", &tokens, "--dtype", "float32", "--out", out]).stdout();
        let (found_shape, found) = tensor(Path::new(out), "logits");
        assert_eq!(found_shape, shape);
        let mean = expected.iter().sum::<f32>() / expected.len() as f32;
        let variance = expected.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / expected.len() as f32;
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-3 * variance.sqrt(), "{model}: {worst}");
    }
}

#[test]
fn the_top_five_are_the_highest_logits() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.safetensors");
    let report =
        automodel(&["logits", "demo", "--tokens", "1,6,11,14", "--json", "--out", out.to_str().unwrap()]).json();
    assert_eq!(report["shape"], serde_json::json!([4, 16]));
    let (_, values) = tensor(&out, "logits");
    for (row, position) in values.chunks_exact(16).zip(report["positions"].as_array().unwrap()) {
        let mut order: Vec<usize> = (0..16).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let top: Vec<usize> =
            position["top"].as_array().unwrap().iter().map(|entry| entry["token"].as_u64().unwrap() as usize).collect();
        assert_eq!(top, order[..5]);
        assert_eq!(position["top"][0]["logit"].as_f64().unwrap() as f32, row[top[0]]);
    }
    assert_eq!(report["positions"][3]["text"], "+");

    let text = automodel(&["logits", "demo", "--tokens", "1, 6"]).stdout();
    assert_eq!(text.lines().count(), 3);
    assert!(text.lines().nth(1).unwrap().trim_start().starts_with("0  1 \"<s>\""), "{text}");
    // Without a tokenizer there are ids alone.
    let text = automodel(&["logits", &fixture("llama"), "--tokens", "1"]).stdout();
    assert!(!text.contains('"'), "{text}");
}

#[test]
fn files_of_logits_are_replaced_whole() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.safetensors");
    std::fs::write(&out, "something older").unwrap();
    let arguments = ["logits", "demo", "--tokens", "1", "--out", out.to_str().unwrap()];
    automodel(&arguments).stdout();
    assert_eq!(tensor(&out, "logits").0, [1, 16]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let fresh = directory.path().join("fresh");
        std::fs::write(&fresh, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&out), mode(&fresh), "readable by whoever reads other files");
    }
}

#[test]
fn logits_beyond_the_positions_are_warned_of() {
    let tokens = ["1"; 70].join(",");
    let ran = automodel(&["logits", "demo", "--tokens", &tokens]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.starts_with("warning: 70 tokens exceed the 64 positions"), "{}", ran.stderr);
    let report = automodel(&["logits", "demo", "--tokens", &tokens, "--json"]).json();
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
}

/// Saves `model` to `out`.
fn save(model: &str, out: &Path, more: &[&str]) -> Ran {
    automodel(&[&["save", model, "--out", out.to_str().unwrap()], more].concat())
}

fn stored_bytes(model: &Path) -> serde_json::Value {
    automodel(&["inspect", model.to_str().unwrap(), "--json"]).json()["stored_bytes"].clone()
}

#[test]
fn saved_copies_work_and_take_no_directory_by_force() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    let text = save("demo", &copy, &[]).stdout();
    assert!(text.starts_with("29 tensors, 1.7 MiB in model.safetensors to ") && text.contains("tied"), "{text}");
    let generate = ["generate", copy.to_str().unwrap(), "--prompt", "27+48="];
    assert_eq!(automodel(&generate).stdout(), "75\n");

    let ran = save("demo", &copy, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("not empty") && ran.stderr.contains("hint: --overwrite"), "{}", ran.stderr);
    let report = save("demo", &copy, &["--overwrite", "--dtype", "bfloat16", "--json"]).json();
    assert_eq!(report["report"]["total_bytes"], 445_312 * 2);
    assert_eq!(stored_bytes(&copy), serde_json::json!({ "BF16": 445_312 * 2 }));
    // Onto itself, while its weights are mapped.
    save(copy.to_str().unwrap(), &copy, &["--overwrite"]).stdout();
    assert_eq!(automodel(&generate).stdout(), "75\n");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary directory stays");

    std::fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    let ran = save("demo", directory.path(), &["--overwrite"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("does not look like a checkpoint"), "{}", ran.stderr);
    assert_eq!(std::fs::read(directory.path().join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn stored_dtypes_stay_and_shards_have_the_size_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for (model, dtype) in [("llama-bf16", "BF16"), ("llama-f16", "F16"), ("llama", "F32")] {
        let copy = directory.path().join(model);
        let report = save(&fixture(model), &copy, &["--max-shard-size", "8KB", "--json"]).json();
        assert!(report["report"]["shards"].as_array().unwrap().len() > 1, "{report}");
        assert!(copy.join("model.safetensors.index.json").is_file());
        let stored = stored_bytes(&copy);
        assert_eq!(stored.as_object().unwrap().keys().collect::<Vec<_>>(), [dtype]);
        let logits = |model: &str| automodel(&["logits", model, "--tokens", "1,2,3", "--dtype", "float32"]).stdout();
        assert_eq!(logits(copy.to_str().unwrap()), logits(&fixture(model)));
    }
}

#[test]
fn damaged_weights_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let model = copy_of_demo(&directory.path().join("model"));
    let file = model.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let ran = automodel(&["logits", model.to_str().unwrap(), "--tokens", "1", "--check-finite"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.starts_with("warning: parameter `"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 value(s) that are NaN or infinite"), "{}", ran.stderr);
}

#[test]
fn quantised_checkpoints_answer_as_models_quantised_while_loading() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("demo-nf4");
    let out = out.to_str().unwrap();
    let printed = automodel(&["quantize", "demo", "--out", out, "--quantize", "nf4"]).stdout();
    assert!(printed.contains("21 weights quantised"), "{printed}");
    for arguments in
        [vec![out], vec!["demo", "--quantize", "nf4"], vec!["demo", "--quantize", "fp4", "--block-size", "32"]]
    {
        let arguments = [&["generate"], arguments.as_slice(), &["--prompt", "27+48="]].concat();
        assert_eq!(automodel(&arguments).stdout(), "75\n");
    }
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let ran = automodel(arguments);
        assert!(ran.code == code && ran.stdout.is_empty() && ran.stderr.contains(word), "{ran:?}");
    };
    refused(&["quantize", "demo", "--out", out, "--quantize", "nf4"], 1, "--overwrite");
    refused(&["quantize", "demo", "--out", out], 2, "--quantize");
}

#[test]
fn models_in_4_bits_are_saved() {
    let directory = tempfile::tempdir().unwrap();
    let (copy, again) = (directory.path().join("copy"), directory.path().join("again"));
    save("demo", &copy, &["--quantize", "nf4"]).stdout();
    let declared = |model: &Path| {
        let config = std::fs::read_to_string(model.join("config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&config).unwrap()["quantization_config"].clone()
    };
    assert_eq!(declared(&copy)["bnb_4bit_quant_type"], "nf4");
    let generate = |model: &Path| {
        automodel(&["generate", model.to_str().unwrap(), "--prompt", "27+48=", "--dtype", "float32"]).stdout()
    };
    assert_eq!(generate(&copy), "75\n");

    // 4-bit weights are kept; --dtype applies to the others, and a request to quantise is answered.
    let copy = copy.to_str().unwrap();
    let ran = save(copy, &again, &["--dtype", "bfloat16", "--quantize", "fp4"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("quantised already"), "{}", ran.stderr);
    assert_eq!(declared(&again)["bnb_4bit_quant_type"], "nf4");
    assert_eq!(declared(&again)["bnb_4bit_compute_dtype"], "bfloat16");
    assert!(stored_bytes(&again).as_object().unwrap().contains_key("BF16"));
    assert_eq!(generate(&again), "75\n");

    let report = save("demo", &again, &["--overwrite", "--quantize", "nf4", "--double-quant", "--json"]).json();
    assert!(report["report"]["warnings"].to_string().contains("float32"), "{report}");

    let refused = save(&fixture("mixtral"), &directory.path().join("experts"), &["--quantize", "nf4"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("automodel quantize"), "{}", refused.stderr);
    let skipped = ["--quantize", "nf4", "--skip-modules", ".*experts"];
    save(&fixture("mixtral"), &directory.path().join("experts"), &skipped).stdout();
}
