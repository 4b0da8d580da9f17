//! `automodel chat`.

use crate::run::{automodel, copy_of_demo, with_input};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

/// The demo with a template that makes a sum of the number of messages and the last one: `5` becomes `1+5=`.
fn counting_model() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let model = copy_of_demo(&directory.path().join("model"));
    let template = "{{ bos_token }}{{ messages | length }}+{{ messages[-1].content }}=";
    std::fs::write(model.join("chat_template.jinja"), template).unwrap();
    let model = model.to_str().unwrap().to_owned();
    (directory, model)
}

#[test]
fn answers_know_the_conversation() {
    let (_directory, model) = counting_model();
    let ran = with_input(&["chat", &model], "5\n\n5\n  5  \n/reset\n5\n/system Be brief.\n5\n/system\n/reset\n5\n");
    // 1+5, 3+5, 5+5; 1+5; with a system prompt and a turn before it 4+5; 1+5.
    assert_eq!(ran.stdout(), "6\n8\n10\n6\n9\n6\n");
}

#[test]
fn the_system_prompt_comes_first_and_exit_ends() {
    let (_directory, model) = counting_model();
    assert_eq!(with_input(&["chat", &model, "--system", "Be brief."], "5\n/exit\n5\n").stdout(), "7\n");
    assert_eq!(automodel(&["chat", &model]).stdout(), "");
}

#[test]
fn answers_are_lines_of_json() {
    let (_directory, model) = counting_model();
    let lines = with_input(&["chat", &model, "--json"], "5\n5\n").stdout();
    let answers: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let contents: Vec<&Value> = answers.iter().map(|answer| &answer["content"]).collect();
    assert_eq!(contents, ["6", "8"]);
    assert_eq!(answers[0]["role"], "assistant");
    assert_eq!(answers[0]["finish_reason"], "eos");
    // <s> 1 + 5 =, and what ends the text.
    assert_eq!((&answers[0]["prompt_tokens"], &answers[0]["new_tokens"]), (&Value::from(5), &Value::from(2)));
}

#[test]
fn templates_are_chosen_by_name_or_file() {
    let (directory, model) = counting_model();
    let additional = Path::new(&model).join("additional_chat_templates");
    std::fs::create_dir(&additional).unwrap();
    std::fs::write(additional.join("twenty.jinja"), "{{ bos_token }}20+{{ messages[-1].content }}=").unwrap();
    let file = directory.path().join("ten.jinja");
    std::fs::write(&file, "{{ bos_token }}10+{{ messages[-1].content }}=").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(with_input(&["chat", &model], "5\n").stdout(), "6\n");
    assert_eq!(with_input(&["chat", &model, "--template", "default"], "5\n").stdout(), "6\n");
    assert_eq!(with_input(&["chat", &model, "--template", "twenty"], "5\n").stdout(), "25\n");
    assert_eq!(with_input(&["chat", &model, "--template", file], "5\n").stdout(), "15\n");

    let ran = with_input(&["chat", &model, "--template", "thousand"], "5\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("no chat template named `thousand` (it has default, twenty)"), "{}", ran.stderr);
    let ran = with_input(&["chat", &model, "--template", "absent.jinja"], "5\n");
    assert!(ran.stderr.contains("cannot read `absent.jinja`"), "{}", ran.stderr);
}

#[test]
fn models_without_a_template_are_for_generate() {
    let ran = with_input(&["chat", "demo"], "27+48=\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("error: the tokenizer has no chat template"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nhint: `automodel generate MODEL --prompt TEXT`"), "{}", ran.stderr);
}

#[test]
fn what_goes_wrong_in_a_pipe_ends_the_conversation() {
    let (_directory, model) = counting_model();
    let too_long = format!("5\n{}\n5\n", "1".repeat(70));
    let ran = with_input(&["chat", &model], too_long);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "6\n"));
    assert!(ran.stderr.contains("64 positions"), "{}", ran.stderr);
    let ran = with_input(&["chat", &model], b"5\n\xff\n".to_vec());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "6\n"));
    assert!(ran.stderr.contains("not UTF-8"), "{}", ran.stderr);
}
