//! Whatever a checkpoint, an argument, a cache or a server holds: no byte that a terminal obeys is written.

use crate::run::{Ran, automodel, copy_of_demo, in_directory, in_directory_with, with_input};
use automodel_hub_test_server::{Fault, FaultKind, Hub, Repo, Server};
use serde_json::{Value, json};
use std::path::Path;

/// An escape sequence, a bell, a carriage return, a line break before a false hint, DEL, a C1 sequence, an override of direction,
/// and a separator of lines.
const EVIL: &str = "\u{1b}[31mEVIL\u{7}\r\nhint: run this\u{7f}\u{9b}2J\u{202e}txt\u{2028}";
/// The part that is valid in a file name on Linux.
const EVIL_NAME: &str = "\u{1b}[31mEVIL\r\nhint: run this\u{7f}\u{9b}2J\u{202e}txt";

fn is_obeyed(c: char) -> bool {
    let is_invisible =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n') || is_invisible
}

/// Checks a run, and returns whether what is evil was shown.
#[track_caller]
fn check(ran: &Ran, what: &str) -> bool {
    for (stream, text) in [("standard output", &ran.stdout), ("standard error", &ran.stderr)] {
        let obeyed = text.find(is_obeyed).map(|at| text[at..].chars().take(20).collect::<String>());
        assert_eq!(obeyed, None, "on {stream} of {what}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("hint: run this")), "{what} fakes a line: {text}");
        assert!(!text.contains("panicked"), "{what}: {text}");
    }
    assert!(ran.code >= 0, "{what} was killed: {ran:?}");
    // Some names are compared in lower case.
    [&ran.stdout, &ran.stderr].iter().any(|text| text.to_lowercase().contains("evil"))
}

/// Runs every command that takes a model. How many showed what is evil.
#[track_caller]
fn run_all(model: &Path, what: &str) -> usize {
    let model = model.to_str().unwrap();
    let commands: [&[&str]; 14] = [
        &["inspect", model, "--config", "-vvv"],
        &["inspect", model, "--config", "--json"],
        &["plan", model, "--rows", "all"],
        &["plan", model, "--json"],
        &["generate", model, "--prompt", "27+48=", "--prompt", "1+2=", "--json", "-vvv"],
        &["chat", model],
        &["chat", model, "--json"],
        &["bench", model, "--prompt-tokens", "2", "--new-tokens", "2"],
        &["bench", model, "--prompt-tokens", "2", "--new-tokens", "2", "--json"],
        &["logits", model, "--tokens", "1,6,11", "-v"],
        &["logits", model, "--tokens", "1,6,11", "--json"],
        &["save", model, "--out", "saved", "-v"],
        &["quantize", model, "--out", "quantised", "--quantize", "nf4"],
        &["quantize", model, "--out", "quantised-too", "--quantize", "nf4", "--json"],
    ];
    run_some(&commands, what)
}

/// Runs these commands. How many showed what is evil.
#[track_caller]
fn run_some(commands: &[&[&str]], what: &str) -> usize {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut shown = 0;
    for &arguments in commands {
        let ran = in_directory(elsewhere.path(), arguments, "27+48=\n");
        shown += usize::from(check(&ran, &format!("{what}, {arguments:?}")));
    }
    shown
}

/// Runs every command on the demo after `change`; at least `least` of them show what is evil.
#[track_caller]
fn changed(what: &str, least: usize, change: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let model = copy_of_demo(&directory.path().join("model"));
    change(&model);
    let shown = run_all(&model, what);
    assert!(shown >= least, "{what}: {shown} commands show it, {least} were expected to");
}

fn change_json(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

fn change_header(model: &Path, change: impl FnOnce(&mut Value, usize) -> usize) {
    let file = model.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let more = change(&mut header, data.len());
    let header = header.to_string();
    let length = u64::try_from(header.len()).unwrap().to_le_bytes();
    std::fs::write(file, [&length, header.as_bytes(), data, &vec![0; more]].concat()).unwrap();
}

#[test]
fn configs() {
    // All commands read it first and in one place.
    let config = |what: &str, change: &dyn Fn(&mut Value)| {
        let directory = tempfile::tempdir().unwrap();
        let model = copy_of_demo(&directory.path().join("model"));
        change_json(&model.join("config.json"), |config| change(config));
        let model = model.to_str().unwrap();
        let commands: [&[&str]; 4] = [
            &["inspect", model, "--config", "-vvv"],
            &["plan", model],
            &["inspect", model, "--config", "--json"],
            &["generate", model, "--prompt", "27+48="],
        ];
        assert!(run_some(&commands, what) >= 1, "{what} is shown");
    };
    config("a key that nothing reads", &|config| config[EVIL] = json!(1));
    for key in ["model_type", "hidden_act", "dtype", "hidden_size"] {
        config(key, &|config| config[key] = json!(EVIL));
    }
    config("architectures", &|config| config["architectures"] = json!([EVIL, EVIL]));
    config("quant_method", &|config| config["quantization_config"] = json!({ "quant_method": EVIL }));
    config("rope_type", &|config| config["rope_parameters"] = json!({ "rope_type": EVIL, "rope_theta": 1e4 }));
}

#[test]
fn configs_that_are_no_json() {
    changed("text instead of a config", 0, |model| std::fs::write(model.join("config.json"), EVIL).unwrap());
    changed("a directory without a config", 12, |model| {
        std::fs::remove_file(model.join("config.json")).unwrap();
        std::fs::write(model.join(EVIL_NAME), "").unwrap();
    });
}

#[test]
fn headers_and_indices() {
    changed("a tensor that nothing takes", 1, |model| {
        change_header(model, |header, end| {
            header[EVIL] = json!({ "dtype": "F32", "shape": [1], "data_offsets": [end, end + 4] });
            4
        });
    });
    changed("a dtype", 12, |model| {
        change_header(model, |header, _| {
            header["model.norm.weight"]["dtype"] = json!(EVIL);
            0
        });
    });
    changed("metadata", 0, |model| {
        change_header(model, |header, _| {
            header["__metadata__"] = json!({ EVIL: EVIL, "format": EVIL });
            0
        });
    });
    let index = |what: &str, map: Value| {
        changed(what, 1, |model| {
            std::fs::rename(model.join("model.safetensors"), model.join("a.safetensors")).unwrap();
            let index = json!({ "metadata": {}, "weight_map": map }).to_string();
            std::fs::write(model.join("model.safetensors.index.json"), index).unwrap();
        });
    };
    index("a tensor of the index", json!({ EVIL: "a.safetensors" }));
    index("a shard of the index", json!({ "model.norm.weight": format!("{EVIL}.safetensors") }));
}

#[test]
fn tokenizers_and_generation_settings() {
    let tokenizer = |what: &str, least: usize, change: &dyn Fn(&mut Value)| {
        changed(what, least, |model| change_json(&model.join("tokenizer.json"), |tokenizer| change(tokenizer)));
    };
    tokenizer("tokens", 2, &|tokenizer| {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        for token in ["7", "5"] {
            let id = vocab.remove(token).unwrap();
            vocab.insert(format!("{EVIL}{token}"), id);
        }
    });
    tokenizer("the type of a tokenizer", 0, &|tokenizer| tokenizer["model"]["type"] = json!(EVIL));
    tokenizer("the type of a decoder", 0, &|tokenizer| tokenizer["decoder"] = json!({ "type": EVIL }));
    changed("generation settings", 0, |model| {
        change_json(&model.join("generation_config.json"), |config| {
            config[EVIL] = json!(EVIL);
            config["temperature"] = json!(EVIL);
        });
    });
}

#[test]
fn templates() {
    for template in [
        format!("{{{{ raise_exception({}) }}}}", Value::from(EVIL)),
        format!("{{% {EVIL} %}}"),
        format!("{{{{ messages | {EVIL} }}}}"),
        format!("{{{{ messages[0]['{EVIL}'].x.y }}}}"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let model = copy_of_demo(&directory.path().join("model"));
        std::fs::write(model.join("chat_template.jinja"), &template).unwrap();
        for arguments in [&["chat", model.to_str().unwrap()][..], &["chat", model.to_str().unwrap(), "--json", "-vvv"]]
        {
            let ran = with_input(arguments, "27+48=\n");
            assert_ne!(ran.code, 0, "{template:?}: {ran:?}");
            check(&ran, &template);
        }
    }
}

#[test]
fn arguments() {
    let evil = [EVIL, EVIL_NAME].map(str::to_owned);
    for evil in &evil {
        let path = format!("./{evil}");
        let of_value = format!("hidden_act={evil}");
        let of_key = format!("{evil}=1");
        let arguments: [&[&str]; 24] = [
            &[evil],
            &["--evil", evil],
            &["generate", "demo", evil],
            &["inspect", evil],
            &["inspect", &path],
            &["inspect", "demo", "--dtype", evil],
            &["inspect", "demo", "--override", evil],
            &["inspect", "demo", "--override", &of_value],
            &["inspect", "demo", "--override", &of_key],
            &["inspect", "demo", "--device", evil],
            &["inspect", "demo", "--attention", evil],
            &["inspect", "demo", "--revision", evil],
            &["inspect", "demo", "--subfolder", evil],
            &["inspect", "demo", "--memory", evil],
            &["inspect", "org/repo", "--token", evil],
            &["inspect", "org/repo", "--cache-dir", &path],
            &["inspect", "org/repo", &format!("--locked={path}")],
            &["plan", "demo", "--context", evil],
            &["generate", "demo", "--prompt-file", &path],
            &["generate", "demo", "--prompt", "1", "--temperature", evil],
            &["logits", "demo", "--tokens", evil],
            &["logits", "demo", "--tokens", "1", "--out", &format!("{path}/x")],
            &["save", "demo", "--out", "x", "--max-shard-size", evil],
            &["cache", "verify", evil],
        ];
        let mut shown = 0;
        for arguments in arguments {
            let ran = automodel(arguments);
            assert_ne!(ran.code, 0, "{arguments:?}: {ran:?}");
            shown += usize::from(check(&ran, &format!("{arguments:?}")));
            let ran = automodel(&[arguments, &["--json"]].concat());
            check(&ran, &format!("{arguments:?} --json"));
            let error: Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|_| panic!("{arguments:?}: {ran:?}"));
            assert!(error["error"].is_string(), "{error}");
        }
        assert!(shown >= 15, "{shown} messages show the argument");
    }
    // The name of the program is an argument too.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(EVIL_NAME);
    std::fs::copy(env!("CARGO_BIN_EXE_automodel"), &program).unwrap();
    for arguments in [&["--help"][..], &["fly"], &["inspect"], &["--version"]] {
        let output = std::process::Command::new(&program).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        check(&Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }, "the name of the program");
    }
}

#[test]
fn directories_of_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join(EVIL_NAME);
    let model = copy_of_demo(&place.join("model"));
    assert!(run_all(&model, "the directory's name") >= 2);
    // A working directory is seen through relative paths.
    for arguments in [&["save", "demo", "--out", EVIL_NAME][..], &["save", "demo", "--out", EVIL_NAME]] {
        assert!(check(&in_directory(directory.path(), arguments, ""), "an output directory"));
    }
}

#[test]
fn caches() {
    const COMMIT: &str = "0123456789012345678901234567890123456789";
    let cache = tempfile::tempdir().unwrap();
    for repo in ["models--someone--adder", &format!("models--someone--{EVIL_NAME}")] {
        let repo = cache.path().join(repo);
        let snapshot = copy_of_demo(&repo.join("snapshots").join(COMMIT));
        std::fs::write(snapshot.join(EVIL_NAME), "x").unwrap();
        std::fs::create_dir_all(repo.join("blobs")).unwrap();
        std::fs::write(repo.join("blobs").join(EVIL_NAME), "x").unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
        std::fs::write(repo.join("refs").join(EVIL_NAME), COMMIT).unwrap();
        std::fs::write(repo.join("refs/v2"), EVIL).unwrap();
    }
    let cache = cache.path().to_str().unwrap();
    let mut shown = 0;
    for arguments in [
        &["cache", "list"][..],
        &["cache", "verify"],
        &["cache", "prune", "--dry-run"],
        &["inspect", "someone/adder"],
        &["inspect", "someone/adder", "--revision", "v2"],
        &["inspect", "someone/adder", "--revision", "v3"],
    ] {
        for json in [&[][..], &["--json"]] {
            let arguments = [arguments, &["--cache-dir", cache], json].concat();
            shown += usize::from(check(&automodel(&arguments), &format!("{arguments:?}")));
        }
    }
    assert!(shown >= 1, "the names in the cache are shown somewhere");
}

#[test]
fn servers() {
    let demo = tempfile::tempdir().unwrap();
    let demo = copy_of_demo(demo.path());
    let files = || {
        std::fs::read_dir(&demo).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
    };
    let mut repo = Repo::default();
    repo.commit("main", files().chain([(format!("{EVIL}.json"), vec![1]), (format!("{EVIL}.safetensors"), vec![2])]));
    let hub = Hub::with("org/adder", repo);
    let all: [&[&str]; 4] = [
        &["inspect", "org/adder"],
        &["pull", "org/adder", "-vvv"],
        &["pull", "org/adder", "--json"],
        &["generate", "org/adder", "--prompt", "1"],
    ];
    let body = |body: Value| FaultKind::Body(body.to_string().into_bytes());
    let redirect = format!("http://127.0.0.1:1/{EVIL}");
    let mut cases = vec![
        ("names of files", Vec::new(), &all[..]),
        ("a response that is not JSON", vec![Fault::always("/api/", FaultKind::Body(EVIL.as_bytes().to_vec()))], &all),
        ("a commit", vec![Fault::always("/api/", body(json!({ "sha": EVIL, "id": EVIL, "siblings": [] })))], &all),
        (
            "a list",
            vec![Fault::always("/tree/", body(json!([{ "type": EVIL, "path": EVIL, "oid": EVIL, "size": 1 }])))],
            &all,
        ),
        ("a config", vec![Fault::always("config.json", body(json!({ "model_type": EVIL })))], &all),
        ("a redirect", vec![Fault::always("/resolve/", FaultKind::Redirect(redirect.replace(['\r', '\n'], "")))], &all),
    ];
    // Headers hold no line breaks, but bytes above 0x7f.
    let headers = ["x-error-code", "x-error-message", "etag", "x-repo-commit", "retry-after"]
        .map(|name| (name.to_owned(), EVIL.replace(['\r', '\n'], "")));
    for status in [401, 403, 404, 429] {
        let fault = Fault::always("/", FaultKind::Status(status, headers.to_vec()));
        // Refused for a while, it tries again a few times.
        cases.push(("a refusal", vec![fault], if status == 429 { &all[1..2] } else { &all }));
    }
    // A command that tries again waits most of its time: all run at once.
    std::thread::scope(|scope| {
        for (what, faults, commands) in cases {
            let server = std::sync::Arc::new(Server::start(Hub { faults, ..hub.clone() }));
            for arguments in commands {
                let server = server.clone();
                scope.spawn(move || {
                    let directory = tempfile::tempdir().unwrap();
                    let variables = [("HF_ENDPOINT", &*server.url()), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", "home")];
                    let ran = in_directory_with(directory.path(), arguments, "", &variables);
                    check(&ran, &format!("{what}, {arguments:?}"));
                });
            }
        }
    });
}
