//! Templates that mean harm.

use automodel_generation::{ChatLimits, ChatMessage, ChatOptions, ChatTemplate, GenerationError, SpecialTokens};
use std::time::{Duration, Instant};

fn render(source: &str) -> Result<String, GenerationError> {
    let template = ChatTemplate::new(source, SpecialTokens::default())?;
    template.render(&[ChatMessage::user("x")], &ChatOptions::default())
}

#[test]
fn endless_work_ends() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 10000000000 }}",
        "{{ ('x' * 99999999) | length }}",
        "{{ range(10000000000) | list | length }}",
        "{{ '%99999999999d' | format(1) }}",
        "{{ '{:99999999999}'.format(1) }}",
        "{{ messages | tojson(indent='x' * 1000000) }}",
        "{{ 10 ** 1000000000 }}",
    ] {
        let start = Instant::now();
        let outcome = render(source);
        assert!(start.elapsed() < Duration::from_secs(20), "{source} took {:?}", start.elapsed());
        if let Ok(text) = outcome {
            assert!(text.len() <= ChatLimits::default().output_bytes, "{source}");
        }
    }
    let endless = render("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}").unwrap_err();
    assert!(matches!(endless, GenerationError::ChatTemplateLimit { resource: "steps", .. }), "{endless:?}");
}

#[test]
fn output_is_limited() {
    let template = ChatTemplate::new("{% for a in range(100) %}0123456789{% endfor %}", SpecialTokens::default()).unwrap();
    let limits = |output_bytes| ChatLimits { output_bytes, ..ChatLimits::default() };
    let render = |output_bytes| {
        let options = ChatOptions { limits: limits(output_bytes), ..ChatOptions::default() };
        template.render(&[ChatMessage::user("x")], &options)
    };
    assert_eq!(render(1000).unwrap().len(), 1000);
    let error = render(999).unwrap_err();
    assert!(matches!(error, GenerationError::ChatTemplateLimit { resource: "bytes of output", limit: 999 }), "{error:?}");
}

#[test]
fn deep_recursion_is_an_error() {
    let recursive = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
    assert!(render(recursive).is_err());
    let nested = format!("{}x{}", "{% if true %}".repeat(5_000), "{% endif %}".repeat(5_000));
    assert!(render(&nested).is_err());
    let brackets = format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(render(&brackets).is_err());
    let negations = format!("{{{{ {}1 }}}}", "not ".repeat(50_000));
    assert!(render(&negations).is_err());
}

#[test]
fn deep_values_do_not_overflow_the_stack() {
    let build = "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for end in ["", "{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x == ns.x }}", "{{ ns.x | string }}", "{{ 'a' ~ ns.x }}"] {
        // An error or a short text: what counts is that the process lives.
        let outcome = render(&format!("{build}{end}"));
        assert!(outcome.map_or(true, |text| text.len() < 1 << 20), "{end}");
    }
}

#[test]
fn files_and_other_templates_are_out_of_reach() {
    for source in ["{% include '/etc/hostname' %}", "{% import 'chat_template' as t %}", "{% extends 'base' %}"] {
        assert!(matches!(render(source), Err(GenerationError::ChatTemplate { .. } | GenerationError::ChatTemplateLimit { .. })), "{source}");
    }
}
