//! A chat template (the file `template`, or all of the input) and its variables: the file `given`, an object with `messages`,
//! `tools`, `documents` and `variables`.

use automodel::generation::{ChatLimits, ChatMessage, ChatOptions, ChatTemplate, GenerationError, SpecialTokens};
use serde_json::{Map, Value};

use super::{MIB, Target, say};
use crate::Files;

pub const TARGET: Target = Target {
    name: "template",
    run,
    // A step may take 64 bytes, of which there are 50,000, and the output is written twice.
    fixed_bytes: 16 * MIB,
    bytes_per_byte: 1024,
    words: &[
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{#",
        "-%}",
        "messages",
        "m.content",
        "range(",
        "loop.index",
        "namespace(",
        "ns.l",
        " ~ ",
        " + ",
        " * ",
        "%",
        "|join",
        "|replace('a', 'aaaaaaaaaa')",
        "|tojson(indent=99999)",
        "|list",
        "|map(attribute='content')",
        "|batch(2)",
        "|indent(99999)",
        "|format",
        "'%99999999d' % 1",
        ".center(99999999)",
        ".zfill(99999999)",
        ".split('')",
        "[::-1]",
        "[:99999999999]",
        "{% for i in range(9999) %}",
        "{% endfor %}",
        "{% set x = x ~ x %}",
        "{% set x = [x, x] %}",
        "{% macro f(x) %}",
        "{{ f(x) }}",
        "{% endmacro %}",
        "{% call",
        "{% if ",
        "{% endif %}",
        "{% raw %}",
        "{% include 'chat_template' %}",
        "is defined",
        "is iterable",
        "is none",
        "strftime_now('%999d')",
        "raise_exception(",
        "not ",
        " and ",
        "\u{202e}",
        "99999999999999999999",
        "cycler(",
        "joiner(",
        "lipsum(",
        "dict(",
        "|default(x, true)",
        "|groupby('role')",
        "|sort",
        "|unique",
        "|sum",
        "|slice(99999)",
    ],
};

fn run(input: &[u8]) {
    let files = Files::split(input);
    let template = files.text("template").or_else(|| files.text("")).unwrap_or_default();
    let given = files.get("given").and_then(|given| serde_json::from_slice::<Map<String, Value>>(given).ok());
    if let Err(error) = render(template, given.unwrap_or_default()) {
        say(&error);
    }
}

fn render(template: String, given: Map<String, Value>) -> Result<(), GenerationError> {
    let tokens = SpecialTokens::default().with("bos_token", "<s>").with("eos_token", "</s>");
    let template = ChatTemplate::new(template, tokens)?;
    let list = |name: &str| given.get(name).and_then(Value::as_array).cloned();
    let fields = |message| if let Value::Object(fields) = message { Some(ChatMessage::from(fields)) } else { None };
    let mut messages: Vec<ChatMessage> = list("messages").unwrap_or_default().into_iter().filter_map(fields).collect();
    if messages.is_empty() {
        messages = vec![ChatMessage::system("Be kind."), ChatMessage::user("Hello")];
    }
    let options = ChatOptions {
        tools: list("tools"),
        documents: list("documents"),
        variables: given.get("variables").and_then(Value::as_object).cloned().unwrap_or_default(),
        // Fewer steps than in earnest, so that many inputs are tried.
        limits: ChatLimits { fuel: 50_000, output_bytes: MIB, ..ChatLimits::default() },
        ..ChatOptions::default()
    };
    let prompt = template.render(&messages, &options)?;
    assert!(prompt.len() <= MIB, "{} bytes of output, more than the limit", prompt.len());
    Ok(())
}
