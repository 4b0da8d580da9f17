//! `{% generation %} .. {% endgeneration %}`: transformers' own tags around what the assistant says.
//!
//! They only mark positions for training. Here they become an empty `with` block, which like them has a scope of its own
//! and writes nothing.

/// `source` with the tags replaced.
pub(super) fn replace(source: &str) -> String {
    let mut replaced = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        replaced.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        replaced.push_str(&replace_tag(tag).unwrap_or_else(|| tag.to_owned()));
        rest = after;
    }
    replaced + rest
}

fn replace_tag(tag: &str) -> Option<String> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
    let keyword = match word {
        "generation" => "with",
        "endgeneration" => "endwith",
        _ => return None,
    };
    Some(tag.replacen(word, keyword, 1))
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn replaces_the_tags_alone() {
        let source = "a{%- generation -%}b{% endgeneration %}c{% set generation = 1 %}{{ generation }}{% if";
        let expected = "a{%- with -%}b{% endwith %}c{% set generation = 1 %}{{ generation }}{% if";
        assert_eq!(replace(source), expected);
    }
}
