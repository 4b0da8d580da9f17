//! Generated text, on a terminal and elsewhere.

use crate::run::{automodel, copy_of_demo};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// The answer 75 becomes this.
const SEVEN: &str = "\u{1b}]0;evil\u{7}7é";
const FIVE: &str = "\n\t\u{9b}2J\u{202e}\u{7f}\r5";

/// The demo, whose tokens 7 and 5 are other texts.
fn model_that_writes_escapes(directory: &Path) -> String {
    let model = copy_of_demo(&directory.join("model"));
    let file = model.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    for (token, text) in [("7", SEVEN), ("5", FIVE)] {
        let id = vocab.remove(token).unwrap();
        vocab.insert(text.to_owned(), id);
    }
    // Any token is 7 or 5 in the text of the prompt too, and so the prompt is made of others.
    std::fs::write(file, tokenizer.to_string()).unwrap();
    std::fs::write(model.join("chat_template.jinja"), "{{ bos_token }}{{ messages[-1].content }}=").unwrap();
    model.to_str().unwrap().to_owned()
}

/// Runs a command line of the shell on a terminal; `None` without a program that makes one.
fn on_a_terminal(line: &str) -> Option<String> {
    let output = Command::new("script")
        .args(["-q", "-e", "-c", line, "/dev/null"])
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).expect("UTF-8")),
        other => {
            eprintln!("SKIPPED: `script` makes no terminal here: {other:?}");
            None
        }
    }
}

#[test]
fn generated_text_is_escaped_on_terminals_and_data_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let model = model_that_writes_escapes(directory.path());
    let raw = format!("{SEVEN}{FIVE}\n");
    // 36+39
    let generate = ["generate", &model, "--prompt", "36+39="];
    assert_eq!(automodel(&generate).stdout(), raw);
    let both = [&generate[..], &["--prompt", "46+29="]].concat();
    assert!(automodel(&both).stdout().ends_with(&format!("\n[1] 46+29=\n{raw}")));
    let texts = automodel(&[&generate[..], &["--json"]].concat()).json();
    assert_eq!(texts["texts"][0]["text"], raw.trim_end());

    let program = env!("CARGO_BIN_EXE_automodel");
    let shown = "\\u{1b}]0;evil\\u{7}7é\n\t\\u{9b}2J\\u{202e}\\u{7f}\\r5\n";
    let lines = [
        (format!("'{program}' generate '{model}' --prompt 36+39= 2>/dev/null"), shown.to_owned()),
        (
            format!("'{program}' generate '{model}' --prompt 36+39= --prompt 46+29= 2>/dev/null"),
            format!("[0] 36+39=\n{shown}\n[1] 46+29=\n{shown}"),
        ),
        (format!("echo 36+39 | '{program}' chat '{model}' 2>/dev/null"), shown.to_owned()),
    ];
    for (line, expected) in lines {
        // Terminals write \r before \n.
        let Some(text) = on_a_terminal(&line) else { return };
        assert_eq!(text.replace("\r\n", "\n"), expected, "{line}");
    }
}

#[test]
fn errors_on_a_terminal_are_escaped_and_wrapped() {
    let line = format!("'{}' inspect \"$(printf './a\\033[31mEVIL')\" || true", env!("CARGO_BIN_EXE_automodel"));
    let Some(text) = on_a_terminal(&line) else { return };
    assert!(text.contains("\\u{1b}[31mEVIL") && !text.contains("\u{1b}[31m"), "{text:?}");
}
