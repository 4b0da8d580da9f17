//! Wraps paragraphs to the width of the terminal.

use std::io::IsTerminal;

/// Default columns of a terminal.
const DEFAULT_COLUMNS: usize = 80;
const MIN_COLUMNS: usize = 30;

/// `label` and `text` for standard error: wrapped on a terminal; elsewhere, where programs read it, only at line breaks of `text`. Later
/// lines are indented, so that they do not look like separate messages.
pub fn for_stderr(label: &str, text: &str) -> String {
    paragraph(&format!("{label}{text}"), columns().unwrap_or(usize::MAX), label.len())
}

/// Width to wrap at: `COLUMNS`, or the default width on a terminal.
fn columns() -> Option<usize> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse::<usize>().ok());
    Some(told.unwrap_or(DEFAULT_COLUMNS).max(MIN_COLUMNS))
}

/// Breaks `text` between words so that no line is longer than `columns` characters, unless a word is; later lines start with
/// `indent` spaces. Line breaks in `text` stay.
pub fn paragraph(text: &str, columns: usize, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut length = 0;
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            length = indent;
        }
        for (position, word) in line.split(' ').enumerate() {
            let width = word.chars().count();
            if position > 0 && columns - length.min(columns) < width.saturating_add(1) {
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(indent));
                length = indent;
            } else if position > 0 {
                wrapped.push(' ');
                length += 1;
            }
            wrapped.push_str(word);
            length += width;
        }
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words() {
        let wrapped = paragraph("error: the directory does not exist", 20, 7);
        assert_eq!(wrapped, "error: the directory\n       does not\n       exist");
        assert!(wrapped.lines().all(|line| line.chars().count() <= 20));
    }

    #[test]
    fn long_words_and_line_breaks_stay_whole() {
        assert_eq!(
            paragraph("a /very/long/path/that/is/one/word b", 10, 2),
            "a\n  /very/long/path/that/is/one/word\n  b"
        );
        assert_eq!(paragraph("one\ntwo", 10, 2), "one\n  two");
        assert_eq!(paragraph("", 10, 2), "");
        assert_eq!(paragraph("error: one  two\nhint: three", usize::MAX, 7), "error: one  two\n       hint: three");
    }
}
