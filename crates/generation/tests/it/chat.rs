//! Against what transformers renders; see `chat_reference/generate.py`.

use crate::support::word_level;
use automodel_generation::{ChatMessage, ChatOptions, ChatTemplate, GenerationError, SpecialTokens, TextTokenizer};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

fn options(case: &Value, now: &Value) -> ChatOptions {
    let mut variables: Map<String, Value> = case["options"].as_object().unwrap().clone();
    let mut flag = |name| variables.remove(name) == Some(Value::Bool(true));
    let (add_generation_prompt, continue_final_message) =
        (flag("add_generation_prompt"), flag("continue_final_message"));
    let tools = variables.remove("tools").map(|tools| tools.as_array().unwrap().clone());
    ChatOptions { add_generation_prompt, continue_final_message, tools, variables, ..at(now) }
}

/// The time at which the references were made.
fn at(now: &Value) -> ChatOptions {
    let now = Some(UNIX_EPOCH + Duration::from_secs(now.as_u64().unwrap()));
    ChatOptions { now, utc_offset: Some(0), ..ChatOptions::default() }
}

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_reference").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn renders_what_transformers_renders() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_reference");
    let reference = read("reference.json");
    let tokens = reference["tokens"].as_object().unwrap();
    let tokens = tokens
        .iter()
        .fold(SpecialTokens::default(), |tokens, (name, token)| tokens.with(name, token.as_str().unwrap()));
    let cases = reference["cases"].as_array().unwrap();
    assert!(cases.len() > 15);
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let source = std::fs::read_to_string(directory.join(name).with_extension("jinja")).unwrap();
        let messages: Vec<ChatMessage> = serde_json::from_value(case["messages"].clone()).unwrap();
        let template = ChatTemplate::new(source, tokens.clone()).unwrap();
        let rendered = template.render(&messages, &options(case, &reference["now"]));
        match (case["expected"].as_str(), rendered) {
            (Some(expected), Ok(rendered)) => assert_eq!(rendered, expected, "{name} {}", case["options"]),
            (None, Err(GenerationError::ChatRejected { message })) => assert_eq!(message, case["error"], "{name}"),
            (expected, rendered) => panic!("{name}: expected {expected:?}, got {rendered:?}"),
        }
    }
}

#[test]
fn each_feature_is_that_of_jinja_and_python() {
    let reference = read("features.json");
    let features = reference["features"].as_array().unwrap();
    assert!(features.len() > 150);
    let variables = reference["sample"].as_object().unwrap().clone();
    let options = ChatOptions { add_generation_prompt: false, variables, ..at(&reference["now"]) };
    let mut wrong = Vec::new();
    for feature in features {
        let source = feature["source"].as_str().unwrap();
        let rendered = ChatTemplate::new(source, SpecialTokens::default())
            .and_then(|template| template.render(&[ChatMessage::user("  27+48? ")], &options));
        match (feature["expected"].as_str(), rendered) {
            (Some(expected), Ok(rendered)) if rendered == expected => {}
            (None, Err(error)) if !matches!(error, GenerationError::ChatTemplateLimit { .. }) => {}
            (expected, rendered) => wrong.push(format!("{source}\n  expected {expected:?}\n  got      {rendered:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dates_are_local() {
    let render = |now, utc_offset| {
        let template = ChatTemplate::new("{{ strftime_now('%Y-%m-%d %H:%M') }}", SpecialTokens::default()).unwrap();
        let now = Some(UNIX_EPOCH + Duration::from_secs(now));
        let options = ChatOptions { now, utc_offset, ..ChatOptions::default() };
        template.render(&[ChatMessage::user("x")], &options).unwrap()
    };
    assert_eq!(render(1_753_574_400, Some(0)), "2025-07-27 00:00");
    assert_eq!(render(1_753_574_400, Some(-9000)), "2025-07-26 21:30");
    let local = render(1_753_574_400, None);
    if std::env::var_os("AUTOMODEL_TEST_LOCAL_TIME").is_some() {
        assert_eq!(local, "2025-07-27 05:30");
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "chat::dates_are_local"])
        .env("AUTOMODEL_TEST_LOCAL_TIME", "1")
        .env("TZ", "<+0530>-05:30")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[test]
fn templates_come_by_name_and_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let config = json!({"image_token": "<img>", "chat_template": {"default": "{{ image_token }}", "rag": "named"}});
    std::fs::write(at("tokenizer.json"), word_level(&["<unk>"]).to_string()).unwrap();
    std::fs::write(at("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(at("own.jinja"), "{{ image_token }}{{ messages[0].content }}").unwrap();
    std::fs::File::create(at("large.jinja")).unwrap().set_len(1 << 40).unwrap();
    let tokenizer = TextTokenizer::from_dir(directory.path()).unwrap();
    let render = |template: Result<ChatTemplate, GenerationError>| {
        template.and_then(|template| template.render(&[ChatMessage::user("x")], &ChatOptions::default()))
    };
    assert_eq!(render(tokenizer.chat_template(None, false)).unwrap(), "<img>");
    assert_eq!(render(tokenizer.chat_template(Some("rag"), false)).unwrap(), "named");
    assert_eq!(render(tokenizer.chat_template_from_file(at("own.jinja"))).unwrap(), "<img>x");
    for (path, large) in [(at("absent.jinja"), false), (directory.path().to_owned(), false), (at("large.jinja"), true)]
    {
        match tokenizer.chat_template_from_file(&path).unwrap_err() {
            GenerationError::UnreadableFile { .. } if !large => {}
            GenerationError::FileTooLarge { .. } if large => {}
            error => panic!("{path:?}: {error:?}"),
        }
    }
}

#[test]
fn only_a_message_that_is_in_the_prompt_can_be_continued() {
    let template = |source: &str| ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    let options = ChatOptions { continue_final_message: true, ..ChatOptions::default() };
    let shown =
        template("{% for m in messages %}<{{ m.content }}>{% endfor %}{% if add_generation_prompt %}!{% endif %}");
    let messages = [ChatMessage::user("a"), ChatMessage::assistant("b ")];
    assert_eq!(shown.render(&messages, &options).unwrap(), "<a><b ");
    let trimmed = template("{% for m in messages %}<{{ m.content | trim }}>{% endfor %}");
    assert_eq!(trimmed.render(&messages, &options).unwrap(), "<a><b");
    let silent = template("{{ messages | length }}").render(&messages, &options).unwrap_err();
    assert!(matches!(silent, GenerationError::UncontinuedMessage { .. }), "{silent:?}");
    let nothing = shown.render(&[ChatMessage::assistant(1)], &options).unwrap_err();
    assert!(matches!(nothing, GenerationError::UncontinuedMessage { .. }), "{nothing:?}");
}

#[test]
fn errors_say_where() {
    let malformed = ChatTemplate::new("{% if %}", SpecialTokens::default()).unwrap_err();
    assert!(matches!(malformed, GenerationError::MalformedChatTemplate { line: Some(1), .. }), "{malformed:?}");
    let template = ChatTemplate::new("\n\n{{ messages[0].a.b.c }}", SpecialTokens::default()).unwrap();
    let failed = template.render(&[ChatMessage::user("x")], &ChatOptions::default()).unwrap_err();
    assert!(matches!(failed, GenerationError::ChatTemplate { line: Some(3), .. }), "{failed:?}");
    let empty = template.render(&[], &ChatOptions::default()).unwrap_err();
    assert!(matches!(empty, GenerationError::EmptyConversation));
}
