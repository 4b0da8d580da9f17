//! Bad input: a clear error on standard error, nothing on standard output, the right exit code.

use crate::run::{Ran, automodel, copy_of_demo, fixture, with_input};
use serde_json::json;
use std::path::Path;

const ERROR: i32 = 1;
const USAGE: i32 = 2;

/// Checks a run that must fail with `code` and say all of `parts`.
#[track_caller]
fn check(ran: Ran, code: i32, parts: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    for part in parts {
        assert!(ran.stderr.contains(part), "{part:?} is not in {}", ran.stderr);
    }
}

#[test]
fn models_that_are_not_there() {
    for command in ["generate", "chat", "inspect", "plan", "bench"] {
        check(
            automodel(&[command, "/no/such/model"]),
            ERROR,
            &["/no/such/model", "does not exist", "\nhint: MODEL is "],
        );
        check(automodel(&[command, "nobody/nothing"]), ERROR, &["`nobody/nothing`", "unset HF_HUB_OFFLINE"]);
        check(automodel(&[command, "a b"]), ERROR, &["a b", "nor a valid repo id"]);
    }
    check(automodel(&["logits", "/no/such/model", "--tokens", "1"]), ERROR, &["/no/such/model"]);
    check(automodel(&["save", "/no/such/model", "--out", "x"]), ERROR, &["/no/such/model"]);
    check(automodel(&["inspect", "demo", "--revision", "main"]), ERROR, &["`main`", "leave the revision out"]);
}

#[test]
fn options_that_make_no_sense() {
    let cases: [(&[&str], &[&str]); 16] = [
        (&[], &["Usage: automodel"]),
        (&["fly"], &["'fly'"]),
        (&["generate"], &["<MODEL>"]),
        (&["inspect", "demo", "--dtype", "int3"], &["`int3` is no dtype", "auto, float32, float16 or bfloat16"]),
        (&["inspect", "demo", "--device", "cuda"], &["no device `cuda`", "`cpu`"]),
        (&["inspect", "demo", "--override", "hidden_size"], &["has no `=`", "key=value"]),
        (&["inspect", "demo", "--attention", "math,magic"], &["`magic`", "efficient_attention"]),
        (&["generate", "demo", "--greedy", "--top-k", "3"], &["--greedy", "--top-k"]),
        (&["generate", "demo", "--prompt", "1", "--prompt-file", "x"], &["--prompt", "--prompt-file"]),
        (&["generate", "demo", "--max-new-tokens", "-1"], &["-1"]),
        (&["bench", "demo", "--rounds", "0"], &["0 is not in 1.."]),
        (&["logits", "demo", "--tokens", "1,x,3"], &["entry 2 is `x`", "1,2,3"]),
        (&["logits", "demo", "--tokens", ""], &["entry 1"]),
        (&["logits", "demo", "--tokens", "-3"], &["entry 1 is `-3`"]),
        (&["save", "demo"], &["--out"]),
        (&["save", "demo", "--out", "x", "--max-shard-size", "5PB"], &["5PB", "500MB"]),
    ];
    for (arguments, parts) in cases {
        let ran = automodel(arguments);
        // Without any argument, clap shows its help as the error.
        if arguments.is_empty() {
            assert_eq!((ran.code, ran.stdout.as_str()), (USAGE, ""));
            assert!(ran.stderr.contains(parts[0]) && ran.stderr.contains("\nCommands:\n"), "{}", ran.stderr);
        } else {
            check(ran, USAGE, parts);
        }
    }
}

#[test]
fn configs_that_do_not_fit() {
    let generate = |overridden: &str| automodel(&["generate", "demo", "--prompt", "1", "--override", overridden]);
    check(
        generate("hiden_size=4"),
        ERROR,
        &["`hiden_size`", "hidden_size", "\nhint: `automodel inspect MODEL --config`"],
    );
    check(generate("hidden_size=-4"), ERROR, &["hidden_size", "\nhint: --override hidden_size=VALUE"]);
    check(generate("hidden_act=magic"), ERROR, &["hidden_act", "magic", "silu"]);
    check(generate("model_type=lama"), ERROR, &["lama", "llama", "\nhint: `automodel architectures NAME`"]);
    check(generate("intermediate_size=300"), ERROR, &["does not fit the model", "[256, 128]", "[300, 128]"]);
    check(generate("num_hidden_layers=4"), ERROR, &["model.layers.3.", "missing"]);
}

#[test]
fn files_that_are_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let model = copy_of_demo(&directory.path().join("model"));
    let name = model.to_str().unwrap();
    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    check(automodel(&["generate", name, "--prompt", "1"]), ERROR, &["model.safetensors", "cut short"]);
    std::fs::remove_file(&weights).unwrap();
    check(automodel(&["plan", name]), ERROR, &["neither model.safetensors nor"]);
    std::fs::write(model.join("config.json"), "{").unwrap();
    check(automodel(&["inspect", name]), ERROR, &["config.json", "not JSON"]);
    std::fs::remove_file(model.join("config.json")).unwrap();
    check(automodel(&["inspect", name]), ERROR, &["has no config.json"]);
}

#[test]
fn prompts_that_cannot_be_continued() {
    let long = "1".repeat(70);
    let ran = automodel(&["generate", "demo", "--prompt", &long]);
    check(ran, ERROR, &["71 tokens", "64 positions", "\nhint: --max-new-tokens"]);
    let ran = automodel(&["generate", "demo", "--prompt", "1", "--max-new-tokens", "100"]);
    check(ran, ERROR, &["64 positions", "--allow-long-sequences"]);
    let ran = automodel(&["generate", "demo", "--prompt", "1", "--temperature", "0"]);
    check(ran, ERROR, &["`temperature` is 0", "\nhint: --greedy"]);
    let ran = automodel(&["generate", "demo", "--prompt", "", "--raw"]);
    check(ran, ERROR, &["has no tokens"]);
    check(automodel(&["generate", "demo", "--prompt-file", "/no/file"]), ERROR, &["/no/file", "No such file"]);
    check(with_input(&["generate", "demo"], b"12\xff".to_vec()), ERROR, &["standard input", "offset 2"]);
    check(automodel(&["bench", &fixture("gpt2")]), ERROR, &["48 positions", "\nhint: --prompt-tokens"]);
}

#[test]
fn results_that_have_no_place() {
    let logits = |more: &[&str]| automodel(&[&["logits", "demo"], more].concat());
    check(logits(&["--tokens", "1,16"]), ERROR, &["token 16", "vocabulary of 16"]);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    check(logits(&["--tokens", "1", "--out", directory]), ERROR, &["is a directory"]);
    let nowhere = format!("{directory}/no/logits.safetensors");
    check(logits(&["--tokens", "1", "--out", &nowhere]), ERROR, &["/no does not exist", "create it first"]);
    let file = format!("{directory}/file");
    std::fs::write(&file, "").unwrap();
    check(automodel(&["save", "demo", "--out", &file]), ERROR, &["is not a directory"]);
}

#[test]
fn errors_are_json_on_request() {
    let error = automodel(&["inspect", "/no/such/model", "--json"]).json_error();
    assert!(error["error"].as_str().unwrap().contains("/no/such/model"), "{error}");
    assert_eq!(error["causes"], serde_json::json!([]));
    assert!(error["hint"].as_str().unwrap().starts_with("MODEL is "), "{error}");
    let error = automodel(&["generate", "demo", "--prompt-file", "/no/file", "--json"]).json_error();
    assert!(error["causes"][0].as_str().unwrap().contains("No such file"), "{error}");
    let error = automodel(&["inspect", "demo", "--dtype", "int3", "--json"]).json_error();
    assert!(error["error"].as_str().unwrap().starts_with("invalid value 'int3'"), "{error}");
    let error = automodel(&["--json", "generate"]).json_error();
    assert!(error["hint"].as_str().unwrap().starts_with("Usage: "), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn full_disks_are_errors() {
    use std::process::{Command, Stdio};
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_automodel"))
        .args(["generate", "demo", "--prompt", "27+48="])
        .stdout(Stdio::from(full))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(ERROR));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: cannot write to standard output: "), "{stderr}");
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_loaded() {
    let small = ["--quantize", "nf4", "--memory", "240KiB"];
    let refused: [&[&str]; 4] = [
        &["generate", "demo", "--prompt", "27+48="],
        &["bench", "demo"],
        &["logits", "demo", "--tokens", "1,2"],
        &["save", "demo", "--out", "copy"],
    ];
    for arguments in refused {
        check(
            automodel(&[arguments, &small].concat()),
            ERROR,
            &[
                "need 243.0 KiB",
                "240.0 KiB assumed",
                "nothing was loaded",
                "222.9 KiB in nf4 double with 11.5 KiB left in the files",
                "hint: `--quantize nf4 --double-quant` fits; ",
                "--ignore-memory",
            ],
        );
    }
    let generate = ["generate", "demo", "--prompt", "27+48="];
    assert_eq!(automodel(&[&generate[..], &small, &["--ignore-memory"]].concat()).stdout(), "75\n");
    assert_eq!(automodel(&[&generate[..], &small, &["--double-quant"]].concat()).stdout(), "75\n");
    let evicting = automodel(&[&generate[..], &["--quantize", "nf4", "--memory", "1KiB"]].concat());
    check(evicting, ERROR, &["0 B in float32", "hint: `--dtype auto` without --quantize loads, but runs slowly"]);
    for usage in [["--memory", "lots"], ["--memory", "0"]] {
        check(automodel(&[&generate[..], &usage].concat()), USAGE, &["--memory"]);
    }
    for usage in [["--context", "0"], ["--context", "1k,x"], ["--batch", "0"], ["--rows", "some"]] {
        check(automodel(&[&["plan", "demo"][..], &usage].concat()), USAGE, &[usage[0]]);
    }
}

#[test]
fn weights_in_8_bits_are_refused_before_they_are_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 3] = [&["plan"], &["inspect"], &["generate", "--prompt", "1"]];
    let refused = |model: &Path, parts: &[&str]| {
        for command in commands {
            check(automodel(&[command, &[model.to_str().unwrap()]].concat()), ERROR, parts);
        }
    };
    let declared = |name: &str, quantization: serde_json::Value| {
        let model = copy_of_demo(&directory.path().join(name));
        let text = std::fs::read(model.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
        config["quantization_config"] = quantization;
        std::fs::write(model.join("config.json"), config.to_string()).unwrap();
        model
    };
    let fp8 = declared("fp8", json!({ "quant_method": "fp8", "weight_block_size": [128, 128] }));
    refused(&fp8, &["fp8", "8-bit floats with a scale per block", "cannot be read", "take the checkpoint"]);
    let gptq = declared("gptq", json!({ "quant_method": "gptq", "bits": 4 }));
    refused(&gptq, &["gptq", "cannot be read"]);

    // Not declared, but there.
    let model = copy_of_demo(&directory.path().join("stored"));
    let bytes = std::fs::read(model.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let name = "model.layers.1.self_attn.q_proj.weight";
    let zeros = vec![0; 128 * 128];
    let eight_bits = safetensors::tensor::TensorView::new(safetensors::Dtype::F8_E4M3, vec![128, 128], &zeros).unwrap();
    let tensors = file.tensors().into_iter();
    let tensors = tensors.map(|(key, view)| if key == name { (key, eight_bits.clone()) } else { (key, view) });
    safetensors::serialize_to_file(tensors, None, &model.join("model.safetensors.new")).unwrap();
    std::fs::rename(model.join("model.safetensors.new"), model.join("model.safetensors")).unwrap();
    refused(&model, &[name, "F8_E4M3", "need the scales", "16-bit edition"]);
}
