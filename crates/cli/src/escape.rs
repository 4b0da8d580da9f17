//! Escapes control characters for terminals.
//!
//! Configs, headers, names, templates, servers and models are not trusted, and their text is shown. A terminal executes escape
//! sequences: they can overwrite lines, change the clipboard and the title, and hide text. Bidirectional controls make text look
//! like another text (<https://trojansource.codes>). All of them are written as Rust writes them: `\u{1b}`.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes all but line breaks and tabs.
pub fn text(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_control(c) && c != '\n' && c != '\t', visible)
}

/// Escapes line breaks and tabs too: for names and other text that must stay on one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_control, visible)
}

/// Escapes control characters that JSON allows. `document` is valid JSON, where such characters occur only in strings, so its meaning is
/// unchanged.
pub fn json(document: &str) -> Cow<'_, str> {
    escaped(
        document,
        |c| is_control(c) && !c.is_ascii_whitespace(),
        |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

/// Whether a terminal may act on a character instead of showing it: control characters (C0, DEL, C1), invisible line separators, and
/// characters that change the direction or the shape of their neighbours.
fn is_control(c: char) -> bool {
    let is_invisible = matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' // marks of direction
        | '\u{2028}' | '\u{2029}' // separators of lines and paragraphs
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // embeddings, overrides, isolates
        | '\u{206a}'..='\u{206f}' // deprecated: shapes of digits and letters
        | '\u{fff9}'..='\u{fffb}' // annotations
    );
    c.is_control() || is_invisible
}

fn visible(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Writing to a string cannot fail.
        c => _ = write!(out, "{}", c.escape_unicode()),
    }
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else { return Cow::Borrowed(text) };
    let (clean, rest) = text.split_at(first);
    let mut out = clean.to_owned();
    for c in rest.chars() {
        if is_escaped(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(line("a\u{1b}[31mb\u{7}\u{7f}\u{9b}2J"), r"a\u{1b}[31mb\u{7}\u{7f}\u{9b}2J");
        assert_eq!(line("one\r\n\ttwo\u{2028}three"), r"one\r\n\ttwo\u{2028}three");
        assert_eq!(text("one\r\n\ttwo\u{202e}\u{2066}\u{200f}"), "one\\r\n\ttwo\\u{202e}\\u{2066}\\u{200f}");
        for c in (0..=0x1f).chain(0x7f..=0x9f).filter_map(char::from_u32) {
            let shown = line(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(
                shown.starts_with('\\') && shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{c:?}: {shown}"
            );
        }
    }

    #[test]
    fn other_text_is_unchanged() {
        // Joined emoji and scripts that need joiners are text.
        for shown in ["", "27+48=", "äöü", "日本語", "👩\u{200d}💻", "می\u{200c}خواهم", "שלום", "C:\\new"]
        {
            assert!(matches!(line(shown), Cow::Borrowed(same) if same == shown), "{shown:?}");
            assert_eq!(text(shown), shown);
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "a\u{7f}\u{9b}": ["\u{202e}x\u{2028}", "\u{1b}", "line\nbreak", "😀"] });
        let document = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&document);
        assert!(shown.contains(r"\u007f\u009b") && shown.contains(r"\u202e") && shown.contains('😀'), "{shown}");
        assert_eq!(shown.lines().count(), document.lines().count());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        let said = serde_json::to_string(&value).unwrap();
        assert!(!json(&said).chars().any(is_control));
    }
}
