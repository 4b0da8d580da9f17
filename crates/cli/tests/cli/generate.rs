//! `automodel generate`.

use crate::run::{automodel, copy_of_demo, fixture, with_input};
use serde_json::Value;

#[test]
fn the_demo_adds() {
    assert_eq!(automodel(&["generate", "demo", "--prompt", "27+48="]).stdout(), "75\n");
}

#[test]
fn prompts_come_from_files_and_standard_input_too() {
    assert_eq!(with_input(&["generate", "demo"], "27+48=\n").stdout(), "75\n");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("prompt.txt");
    std::fs::write(&file, "27+48=\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(automodel(&["generate", "demo", "--prompt-file", file]).stdout(), "75\n");
    let both = automodel(&["generate", "demo", "--prompt-file", file, "--prompt-file", file]).stdout();
    assert_eq!(both, "[0] 27+48=\n75\n\n[1] 27+48=\n75\n");
}

#[test]
fn several_prompts_are_printed_in_their_order() {
    let arguments = ["generate", "demo", "--prompt", "27+48=", "--prompt", "1+2=", "--prompt", "99+9="];
    assert_eq!(automodel(&arguments).stdout(), "[0] 27+48=\n75\n\n[1] 1+2=\n3\n\n[2] 99+9=\n108\n");
}

#[test]
fn json_has_all_that_is_known_of_a_text() {
    let report = automodel(&["generate", "demo", "--prompt", "27+48=", "--prompt", "1+2=", "--json"]).json();
    let first = &report["texts"][0];
    assert_eq!(first["prompt"], "27+48=");
    assert_eq!(first["text"], "75");
    assert_eq!(first["token_ids"], serde_json::json!([11, 9, 2]));
    assert_eq!(first["finish_reason"], "eos");
    assert_eq!(first["prompt_tokens"], 7);
    assert_eq!(report["texts"][1]["text"], "3");
    assert!(report["seed"].is_u64() && report["load_seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["timings"]["prompt_tokens"], 7 + 5);
    assert!(report["timings"]["first_token_seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["warnings"], serde_json::json!([]));
}

#[test]
fn texts_end_where_they_are_told_to() {
    let generate = |more: &[&str]| {
        let arguments = [&["generate", "demo", "--prompt", "27+48=", "--json"], more].concat();
        automodel(&arguments).json()["texts"][0].clone()
    };
    let text = generate(&["--max-new-tokens", "1"]);
    assert_eq!((&text["text"], &text["finish_reason"]), (&Value::from("7"), &Value::from("max_new_tokens")));
    let text = generate(&["--stop", "5"]);
    assert_eq!((&text["text"], &text["finish_reason"]), (&Value::from("7"), &Value::from("stop_string")));
    let text = generate(&["--ignore-eos", "--max-new-tokens", "6"]);
    assert_eq!(text["token_ids"].as_array().unwrap().len(), 6);
    // Without the token that begins a text there is one fewer.
    assert_eq!(generate(&["--raw"])["prompt_tokens"], 6);
}

#[test]
fn equal_seeds_give_equal_texts_and_others_do_not() {
    let tokens = |seed: &str, more: &[&str]| {
        let arguments =
            ["generate", "demo", "--prompt", "2", "--ignore-eos", "--max-new-tokens", "40", "--json", "--seed", seed];
        automodel(&[&arguments, more].concat()).json()["texts"][0]["token_ids"].clone()
    };
    // A temperature alone asks for drawing.
    assert_eq!(tokens("1", &["--temperature", "5"]), tokens("1", &["--sample", "--temperature", "5"]));
    assert_ne!(tokens("1", &["--temperature", "5"]), tokens("2", &["--temperature", "5"]));
    assert_eq!(tokens("1", &["--greedy"]), tokens("2", &[]));
    // With one candidate there is nothing to sample.
    assert_eq!(tokens("3", &["--top-k", "1"]), tokens("1", &["--greedy"]));
    assert_eq!(tokens("3", &["--top-p", "0"]), tokens("1", &["--greedy"]));
    assert_eq!(tokens("3", &["--min-p", "1"]), tokens("1", &["--greedy"]));
    assert_ne!(tokens("1", &["--greedy", "--repetition-penalty", "50"]), tokens("1", &["--greedy"]));
}

#[test]
fn model_options_reach_the_model() {
    for options in [
        &["--dtype", "bfloat16"][..],
        &["--dtype", "float32", "--check-finite", "--force-generic", "--device", "cpu"],
        &["--no-mmap", "--attention", "cudnn_attention,math"],
        &["--prefill-chunk", "2"],
        &["--prefill-chunk", "0"],
        &["--override", "max_position_embeddings=128", "--override", "rope_parameters.rope_theta=10000"],
    ] {
        let ran = automodel(&[&["generate", "demo", "--prompt", "27+48="], options].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "75\n"), "{options:?}: {}", ran.stderr);
    }
    let ran = automodel(&["generate", "demo", "--prompt", "27+48=", "--override", "rope_parameters.rope_theta=3"]);
    assert_ne!(ran.stdout(), "75\n");
}

#[test]
fn unread_keys_are_refused_until_they_are_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let model = copy_of_demo(&directory.path().join("model"));
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(model.join("config.json"), config.replacen('{', r#"{"rotary_magic": 2,"#, 1)).unwrap();
    let generate = ["generate", model.to_str().unwrap(), "--prompt", "27+48="];
    let ran = automodel(&generate);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("`rotary_magic`") && ran.stderr.contains("\nhint: --allow-unread-key rotary_magic "));
    let ran = automodel(&[&generate[..], &["--allow-unread-key", "rotary_magic"]].concat());
    assert_eq!(ran.stdout(), "75\n");

    // More than a hint lists.
    let more = r#"{"rotary_magic": 2, "more_magic": 1, "other_magic": 1, "last_magic": 1,"#;
    std::fs::write(model.join("config.json"), config.replacen('{', more, 1)).unwrap();
    let ran = automodel(&generate);
    assert!(
        ran.stderr.contains("\nhint: --allow-unread-key KEY, once for each of the 4 keys, loads"),
        "{}",
        ran.stderr
    );
}

#[test]
fn repos_are_found_in_the_cache() {
    const COMMIT: &str = "0123456789012345678901234567890123456789";
    let cache = tempfile::tempdir().unwrap();
    let repo = cache.path().join("models--someone--adder");
    copy_of_demo(&repo.join("snapshots").join(COMMIT));
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
    let cache = cache.path().to_str().unwrap();
    let arguments = ["generate", "someone/adder", "--cache-dir", cache, "--prompt", "27+48="];
    assert_eq!(automodel(&arguments).stdout(), "75\n");
    let report = automodel(&["inspect", "someone/adder", "--cache-dir", cache, "--revision", "main", "--json"]).json();
    assert_eq!(report["commit"], COMMIT);
    let ran = automodel(&["inspect", "someone/adder", "--cache-dir", cache, "--revision", "v2"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("revision `v2`"), "{}", ran.stderr);
}

#[test]
fn timings_go_to_standard_error_on_request() {
    let ran = automodel(&["generate", "demo", "--prompt", "27+48=", "-v"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "75\n"));
    assert!(ran.stderr.contains("loaded in") && ran.stderr.contains("tokens/s"), "{}", ran.stderr);
}

#[test]
fn sharded_models_without_a_tokenizer_are_named_for_what_they_lack() {
    let ran = automodel(&["generate", &fixture("llama-sharded"), "--prompt", "a"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("tokenizer") && ran.stderr.contains("hint: "), "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::process::{Command, Stdio};
    for arguments in [&["plan", "demo"][..], &["generate", "demo", "--prompt", "27+48="], &["--help"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_automodel"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}
