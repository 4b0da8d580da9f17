//! Against what transformers renders; see `chat_reference/generate.py`.

use automodel_generation::{ChatMessage, ChatOptions, ChatTemplate, GenerationError, SpecialTokens};
use serde_json::{Map, Value};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

fn options(case: &Value, now: u64) -> ChatOptions {
    let mut variables: Map<String, Value> = case["options"].as_object().unwrap().clone();
    let add_generation_prompt = variables.remove("add_generation_prompt") == Some(Value::Bool(true));
    let tools = variables.remove("tools").map(|tools| tools.as_array().unwrap().clone());
    let now = Some(UNIX_EPOCH + Duration::from_secs(now));
    ChatOptions { add_generation_prompt, tools, variables, now, ..ChatOptions::default() }
}

#[test]
fn renders_what_transformers_renders() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat_reference");
    let reference: Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("reference.json")).unwrap()).unwrap();
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
        let rendered = template.render(&messages, &options(case, reference["now"].as_u64().unwrap()));
        match (case["expected"].as_str(), rendered) {
            (Some(expected), Ok(rendered)) => assert_eq!(rendered, expected, "{name} {}", case["options"]),
            (None, Err(GenerationError::ChatRejected { message })) => assert_eq!(message, case["error"], "{name}"),
            (expected, rendered) => panic!("{name}: expected {expected:?}, got {rendered:?}"),
        }
    }
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
