//! Hostile templates.

use automodel_generation::{ChatLimits, ChatMessage, ChatOptions, ChatTemplate, GenerationError, SpecialTokens};
use std::time::Duration;

fn render(source: &str) -> Result<String, GenerationError> {
    let template = ChatTemplate::new(source, SpecialTokens::default())?;
    template.render(&[ChatMessage::user("x")], &ChatOptions::default())
}

/// Runs a template that needs too much with a deadline that never expires: counting steps and bytes must end it.
fn check_bounded(source: &str, fuel: u64) {
    let limits = ChatLimits { fuel, deadline: Duration::from_secs(3600), ..ChatLimits::default() };
    let options = ChatOptions { limits, ..ChatOptions::default() };
    let outcome = ChatTemplate::new(source, SpecialTokens::default())
        .and_then(|template| template.render(&[ChatMessage::user("x")], &options));
    assert!(outcome.map_or(true, |text| text.len() <= ChatLimits::default().output_bytes), "{source}");
}

/// Templates that need more memory or time than any machine has.
const GREEDY: &[&str] = &[
    "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = ns.x * 9 %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='<') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x | e %}{% endfor %}",
    "{% set ns = namespace(x='\\u0390') %}{% for a in range(99) %}{% set ns.x = ns.x.upper() ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='\"') %}{% for a in range(99) %}{% set ns.x = ns.x | tojson %}{% endfor %}",
    "{% macro m(x, n) %}{% if n %}{{ m(x ~ x, n - 1) }}{{ m(x ~ x, n - 1) }}{% endif %}{{ x }}{% endmacro %}{{ m('a', 60) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}x{% endmacro %}{{ m(50) | length }}",
    "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call m() %}{% call m() %}{{ 'x' * 9999999 }}{% endcall %}{% endcall %}",
    "{% for x in [[[[[[1] * 99] * 99] * 99] * 99] * 99] recursive %}{{ loop(x) if x is iterable }}{% endfor %}",
    "{% for a in range(100000) %}{% set b = 'x' * 100000 %}{% endfor %}",
    "{% for a in range(100000) %}{% macro m() %}{% endmacro %}{% set l = [loop, m, namespace(l=l)] %}{% endfor %}",
    "{% for a in range(99) %}{% for b in range(99) %}{% for c in range(99) %}{% for d in range(99) %}x{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
    "{{ 'x' * 10000000000 }}",
    "{{ [1] * 10000000000 }}",
    "{{ ('x' * 99999999) | length }}",
    "{{ range(10000000000) | list | length }}",
    "{{ range(1000000000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1 }}",
    "{{ '%.1000000000e' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%99999999999999999999999d' % 1 }}",
    "{{ '%99999999999d' | format(1) }}",
    "{{ '{:99999999999}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 99999999999) }}",
    "{{ '{:.99999999999f}'.format(1.5) }}",
    "{{ ('{0}' * 30000).format('x' * 1000000) | length }}",
    "{{ ('%s' * 30000) % (('x' * 1000000,) * 30000) }}",
    "{{ 'a'.center(10 ** 9) }}",
    "{{ 'a'.ljust(10 ** 9) }}",
    "{{ 'a'.zfill(10 ** 9) }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ ('\\t' * 1000).expandtabs(10 ** 9) }}",
    "{{ ('a' * 100000).replace('a', 'b' * 100000) | length }}",
    "{{ ('a' * 100000).replace('', 'b' * 100000) | length }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) | length }}",
    "{{ ('a' * 100000).join('b' * 100000) | length }}",
    "{{ ('b' * 100000) | list | join('a' * 100000) | length }}",
    "{{ ('a' * 1000000).split('a') | length }}",
    "{{ ('a b ' * 1000000).split() | length }}",
    "{{ ('a\\n' * 1000000).splitlines() | length }}",
    "{{ ('a' * 1000000).strip('b' * 1000000) | length }}",
    "{{ 'a' | indent(10000000000) | length }}",
    "{{ ('a\\n' * 100000) | indent('x' * 100000) | length }}",
    "{{ [1] | batch(100000000000, 'x') | list | length }}",
    "{{ [1] | slice(100000000000, 'x') | list | length }}",
    "{{ (range(100000) | list) | unique | list | length }}",
    "{{ (('ab' * 5000) | list) | sort | groupby('x') | length }}",
    "{{ ([['x' * 1000] * 1000] * 1000) | sum(start=[]) | length }}",
    "{{ range(100000) | map('string') | map('center', 10000) | list | length }}",
    "{{ 'x' * 9999999 }}{{ 'x' * 9999999 }}",
    "{{ messages | tojson(indent=10 ** 9) }}",
    "{{ messages | tojson(indent='x' * 1000000) }}",
    "{{ messages | tojson(separators=('x' * 1000000, 'y' * 1000000)) }}",
    "{{ 10 ** 1000000000 }}",
    "{{ 1.5 | round(1000000000) }}",
    "{{ strftime_now('%1000000000Y') }}",
    "{{ strftime_now('%c' * 1000000) }}",
    "{{ raise_exception('x' * 100000000) }}",
];

#[test]
fn endless_work_ends() {
    let endless =
        render("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}").unwrap_err();
    assert!(matches!(endless, GenerationError::ChatTemplateLimit { resource: "steps", .. }), "{endless:?}");
}

/// Set in the child process that runs with little memory.
const CHILD: &str = "AUTOMODEL_TEST_LITTLE_MEMORY";

/// The process has 1 GB of address space for code, stacks and the template's values. A template that allocated more would abort the
/// process instead of failing.
#[test]
#[cfg(target_os = "linux")]
fn memory_has_a_bound() {
    if std::env::var_os(CHILD).is_some() {
        for source in GREEDY.iter().map(|source| (*source).to_owned()).chain(SHARED.iter().map(|end| shared(end))) {
            // As many steps as there are by default take a development build minutes for all of these together.
            check_bounded(&source, 100_000);
        }
        for source in &GREEDY[..4] {
            check_bounded(source, ChatLimits::default().fuel);
        }
        return;
    }
    let child = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 1000000 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "chat_limits::memory_has_a_bound"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}

/// Operations on a list of a hundred levels, each of which has the level below twice.
const SHARED: &[&str] = &[
    "{{ ns.x }}",
    "{{ ns.x | tojson }}",
    "{{ ns.x | string }}",
    "{{ ns.x | upper | length }}",
    "{{ ns.x ~ 'a' }}",
    "{{ '%s' % [ns.x] }}",
    "{{ '{}'.format(ns.x) }}",
    "{{ ''.join([ns.x]) }}",
    "{{ ns.x == ns.y }}",
    "{{ ns.x < ns.y }}",
    "{{ [ns.x, ns.y] | sort | length }}",
    "{{ [ns.x, ns.y] | unique | list | length }}",
    "{{ ns.x in [ns.y] }}",
    "{{ ns.x is eq(ns.y) }}",
    "{{ {(ns.t,): 1} | length }}",
    "{{ {ns.t: 1, ns.u: 2} | length }}",
    "{{ raise_exception(ns.x) }}",
    "{{ strftime_now(ns.x) }}",
    "{{ ns.x.absent.more }}",
    "{{ ns.x() }}",
    "{{ ns.x | int }}",
    "{{ ns.x | sum(start=[]) }}",
    "{{ range(ns.x) }}",
    "{{ ns.x | map('string') | list }}",
];

fn shared(end: &str) -> String {
    let build = "{% set ns = namespace(x=['x' * 1000], y=['x' * 1000], t=(1,), u=(1,)) %}{% for a in range(99) %}\
                 {% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% set ns.t = (ns.t, ns.t) %}\
                 {% set ns.u = (ns.u, ns.u) %}{% endfor %}";
    format!("{build}{end}")
}

#[test]
fn the_deadline_ends_a_template_and_its_thread() {
    let source = "{% for a in range(99999) %}{{ a }}{% endfor %}";
    let template = ChatTemplate::new(source, SpecialTokens::default()).unwrap();
    let limits = ChatLimits { deadline: Duration::ZERO, ..ChatLimits::default() };
    let options = ChatOptions { limits, ..ChatOptions::default() };
    let error = template.render(&[ChatMessage::user("x")], &options).unwrap_err();
    assert!(matches!(error, GenerationError::ChatTemplateLimit { resource: "milliseconds", limit: 0 }), "{error:?}");
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
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}".to_owned(),
        "{% macro f(x) %}{{ [x] | map('default', f(x)) | list }}{% endmacro %}{{ f(0) }}".to_owned(),
        format!("{}x", "{% for a in [1] %}".repeat(3_000)),
        format!("{{{{ {}1{} }}}}", "-(".repeat(5_000), ")".repeat(5_000)),
        format!("{{{{ {}1{} }}}}", "{1:".repeat(5_000), "}".repeat(5_000)),
        format!("{{{{ {} }}}}", "a(b=".repeat(5_000)),
        format!("{{{{ {} }}}}", "a[".repeat(5_000)),
        format!("{{{{ {} }}}}", "x is in ".repeat(5_000)),
        format!("{{% set {} = 1 %}}", "(".repeat(5_000)),
        format!("{}x{}", "{% if true %}".repeat(5_000), "{% endif %}".repeat(4_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000)),
    ] {
        assert!(render(&source).is_err(), "{}", &source[..40]);
    }
}

#[test]
fn long_chains_do_not_overflow_the_stack() {
    let links = [
        "-",
        "not ",
        ".a",
        "|upper",
        "+1",
        "**1",
        " if 1 else 1",
        " if 1",
        " and 1",
        "()",
        "[0]",
        "[:]",
        " is defined",
        "~1",
        "<1",
        " in []",
        "|f.a",
        ",1",
        " 'a'",
    ];
    for link in links {
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
        assert!(matches!(render(source), Err(GenerationError::MalformedChatTemplate { .. })), "{source}");
    }
}
