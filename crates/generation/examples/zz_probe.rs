//! probe
use automodel_generation::*;
fn main() {
    let which: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let len: usize = 120_000;
    let stack: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let n: usize = std::env::args().nth(3).and_then(|n| n.parse().ok()).unwrap_or(99);
    let build = &format!("{{% set ns = namespace(x=[]) %}}{{% for b in range({n}) %}}{{% for a in range(10000) %}}{{% set ns.x = [ns.x] %}}{{% endfor %}}{{% endfor %}}"); let _ = "{% set ns = namespace(x=[]) %}{% for b in range(99) %}{% for a in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
    let src = match which {
        0 => "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_string(),
        1 => format!("{}x{}", "{% if true %}".repeat(5_000), "{% endif %}".repeat(5_000)),
        2 => format!("{{{{ {}1{} }}}}", "[".repeat(len / 1), "]".repeat(len / 1)),
        3 => format!("{{{{ {}1 }}}}", "not ".repeat(len / 4)),
        4 => format!("{{{{ {}1 }}}}", "-".repeat(len / 1)),
        5 => format!("{{{{ x{} }}}}", ".a".repeat(len / 2)),
        6 => format!("{{{{ x{} }}}}", "|upper".repeat(len / 6)),
        7 => format!("{{{{ 1{} }}}}", "+1".repeat(len / 2)),
        8 => format!("{{{{ 1{} }}}}", "**1".repeat(len / 3)),
        9 => format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(len / 12)),
        10 => format!("{}x{}", "{% for a in [1] %}".repeat(5_000), "{% endfor %}".repeat(5_000)),
        11 => format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(len / 12)),
        12 => build.to_string(),
        13 => format!("{build}{}", "{{ ns.x }}"),
        14 => format!("{build}{}", "{{ ns.x | tojson }}"),
        15 => format!("{build}{}", "{{ ns.x == ns.x }}"),
        16 => format!("{build}{}", "{{ ns.x | string }}"),
        17 => format!("{build}{}", "{{ 'a' ~ ns.x }}"),
        18 => format!("{build}{}", "{{ [ns.x, ns.x] | sort }}"),
        19 => format!("{build}{}", "{{ {ns.x: 1} }}"),
        20 => format!("{build}{}", "{{ [ns.x, 1] | unique | list | length }}"),
        21 => "{% set ns = namespace(x=none) %}{% for a in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}{{ ns.x|pprint }}".to_string(),
        22 => format!("{{{{ 1{} }}}}", " == 1".repeat(len / 5)),
        23 => format!("{{{{ 1{} }}}}", " and 1".repeat(len / 6)),
        24 => format!("{{{{ x{} }}}}", "()".repeat(len / 2)),
        25 => format!("{{{{ x{} }}}}", "[0]".repeat(len / 3)),
        26 => format!("{{{{ x{} }}}}", " is defined".repeat(len / 11)),
        27 => format!("{{{{ 'a'{} }}}}", " ~ 'a'".repeat(len / 6)),
        28 => "{% set ns = namespace(x='a') %}{% for a in range(99999) %}{% set ns.x = ns %}{% endfor %}{{ ns }}".to_string(),
        29 => "{% set ns = namespace(x=[1]) %}{% for a in range(99999) %}{% set ns.x = ns.x + [1] %}{% endfor %}{{ ns.x|length }}".to_string(),
        30 => "{% set ns = namespace(x=[1]) %}{% for a in range(99999) %}{% set ns.x = ns.x|map('upper') %}{% endfor %}{{ ns.x|list|length }}".to_string(),
        31 => "{% macro f(n) %}{% if n %}{% call f(n) %}x{% endcall %}{% endif %}{% endmacro %}{{ f(1) }}".to_string(),
        32 => "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_string(),
        _ => return,
    };
    std::thread::Builder::new().stack_size(stack << 20).spawn(move || {
        let r = ChatTemplate::new(src, SpecialTokens::default()).and_then(|t| t.render(&[ChatMessage::user("x")], &ChatOptions::default()));
        let s = match r { Ok(t) => format!("ok {}", t.len()), Err(e) => format!("err {e} / {:?}", std::error::Error::source(&e).map(|s| s.to_string().chars().take(100).collect::<String>())) };
        println!("{which}: {s}");
    }).unwrap().join().unwrap();
}
