//! Templates that mean harm.

use automodel_generation::{ChatLimits, ChatMessage, ChatOptions, ChatTemplate, GenerationError, SpecialTokens};
use std::time::Duration;

fn render(source: &str) -> Result<String, GenerationError> {
    let template = ChatTemplate::new(source, SpecialTokens::default())?;
    template.render(&[ChatMessage::user("x")], &ChatOptions::default())
}

/// Runs a template that wants too much with a deadline that never strikes: it must end by counting steps and bytes alone.
fn check_bounded(source: &str) {
    let limits = ChatLimits { deadline: Duration::from_secs(3600), ..ChatLimits::default() };
    let options = ChatOptions { limits, ..ChatOptions::default() };
    let outcome = ChatTemplate::new(source, SpecialTokens::default())
        .and_then(|template| template.render(&[ChatMessage::user("x")], &options));
    assert!(outcome.map_or(true, |text| text.len() <= ChatLimits::default().output_bytes), "{source}");
}

#[test]
fn endless_work_ends() {
    for source in [
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 10000000000 }}",
        "{{ ('x' * 99999999) | length }}",
        "{{ range(10000000000) | list | length }}",
        "{{ '%99999999999d' | format(1) }}",
        "{{ '{:99999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 99999999999) }}",
        "{{ '{:.99999999999f}'.format(1.5) }}",
        "{{ ('{0}' * 30000).format('x' * 1000000) | length }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) | length }}",
        "{{ ('a' * 100000) | replace('a', 'b' * 100000) | length }}",
        "{{ ('a' * 100000).join('b' * 100000) | length }}",
        "{{ ('b' * 100000) | list | join('a' * 100000) | length }}",
        "{{ 'a' | indent(10000000000) | length }}",
        "{{ [1] | batch(100000000000, 'x') | list | length }}",
        "{{ [1] | slice(100000000000, 'x') | list | length }}",
        "{{ 'x' * 9999999 }}{{ 'x' * 9999999 }}",
        "{{ messages | tojson(indent='x' * 1000000) }}",
        "{{ 10 ** 1000000000 }}",
        "{{ 1.5 | round(1000000000) }}",
    ] {
        check_bounded(source);
    }
    let endless =
        render("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}").unwrap_err();
    assert!(matches!(endless, GenerationError::ChatTemplateLimit { resource: "steps", .. }), "{endless:?}");
}

#[test]
fn values_that_share_their_parts_do_not_explode() {
    let build = "{% set ns = namespace(x=[]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for end in [
        "{{ ns.x }}",
        "{{ ns.x | tojson }}",
        "{{ ns.x | string }}",
        "{{ '{}'.format(ns.x) }}",
        "{{ ''.join([ns.x]) }}",
        "{{ ns.x == ns.x }}",
        "{{ ns.x < ns.x }}",
        "{{ [ns.x, ns.x] | sort | length }}",
        "{{ [ns.x, ns.x] | unique | list | length }}",
        "{{ ns.x in [ns.x] }}",
        "{{ ns.x is eq(ns.x) }}",
        "{{ raise_exception(ns.x) }}",
        "{{ strftime_now(ns.x) }}",
        "{{ ns.x.absent.more }}",
        "{{ ns.x() }}",
        "{{ ns.x | int }}",
        "{{ ns.x | sum }}",
        "{{ range(ns.x) }}",
    ] {
        check_bounded(&format!("{build}{end}"));
    }
}

#[test]
fn what_costs_no_steps_has_a_deadline() {
    // Looking up a key takes a hash of all its parts, each as often as it appears; this ends after some seconds.
    let source = "{% set ns = namespace(x=[]) %}{% for a in range(25) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ {ns.x: 1} | length }}";
    let template = ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    let limits = ChatLimits { deadline: Duration::from_millis(20), ..ChatLimits::default() };
    let options = ChatOptions { limits, ..ChatOptions::default() };
    let error = template.render(&[ChatMessage::user("x")], &options).unwrap_err();
    assert!(matches!(error, GenerationError::ChatTemplateLimit { resource: "milliseconds", limit: 20 }), "{error:?}");
}

#[test]
fn output_is_limited() {
    let template =
        ChatTemplate::new("{% for a in range(100) %}0123456789{% endfor %}", SpecialTokens::default()).unwrap();
    let limits = |output_bytes| ChatLimits { output_bytes, ..ChatLimits::default() };
    let render = |output_bytes| {
        let options = ChatOptions { limits: limits(output_bytes), ..ChatOptions::default() };
        template.render(&[ChatMessage::user("x")], &options)
    };
    assert_eq!(render(1000).unwrap().len(), 1000);
    let error = render(999).unwrap_err();
    assert!(
        matches!(error, GenerationError::ChatTemplateLimit { resource: "bytes of output", limit: 999 }),
        "{error:?}"
    );
}

#[test]
fn deep_recursion_is_an_error() {
    for source in [
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_owned(),
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        format!("{}x{}", "{% if true %}".repeat(5_000), "{% endif %}".repeat(4_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000)),
    ] {
        assert!(render(&source).is_err(), "{}", &source[..40]);
    }
}

#[test]
fn long_chains_do_not_overflow_the_stack() {
    for link in ["-", "not ", ".a", "|upper", "+1", "**1", " if 1 else 1", " and 1", "()", "[0]", " is defined"] {
        let before = ["-", "not "].contains(&link);
        let chain = link.repeat(120_000 / link.len());
        let source = if before { format!("{{{{ {chain}1 }}}}") } else { format!("{{{{ 1{chain} }}}}") };
        // Some mean something and some do not: what counts is that the process lives.
        assert!(render(&source).map_or(true, |text| text.len() < 1 << 20), "{link}");
    }
    let elif = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000));
    assert_eq!(render(&elif).unwrap(), "");
    let long = ChatTemplate::new("x".repeat(200_000), SpecialTokens::default()).unwrap_err();
    assert!(matches!(long, GenerationError::ChatTemplateLimit { resource: "bytes of source", .. }), "{long:?}");
}

#[test]
fn deep_values_do_not_overflow_the_stack() {
    let build = "{% set ns = namespace(x=[]) %}{% for b in range(10) %}{% for a in range(10000) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
    let sinks =
        ["", "{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x == ns.x }}", "{{ ns.x | string }}", "{{ 'a' ~ ns.x }}"];
    for end in sinks {
        assert!(render(&format!("{build}{end}")).map_or(true, |text| text.len() < 1 << 20), "{end}");
    }
    let sorted = render(&format!("{build}{{{{ [ns.x, ns.x] | sort | length }}}}"));
    assert!(sorted.map_or(true, |text| text == "2"));
}

#[test]
fn files_and_other_templates_are_out_of_reach() {
    for source in ["{% include '/etc/hostname' %}", "{% import 'chat_template' as t %}", "{% extends 'base' %}"] {
        assert!(
            matches!(
                render(source),
                Err(GenerationError::ChatTemplate { .. } | GenerationError::ChatTemplateLimit { .. })
            ),
            "{source}"
        );
    }
}
