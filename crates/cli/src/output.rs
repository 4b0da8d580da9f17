//! All output of the command: results on standard output, everything else on standard error.
//!
//! No other file writes to either, which a test checks, so that nothing reaches a terminal without being escaped.

use crate::{error::CliError, escape};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::fmt::MakeWriter;

/// Writes a report to standard output. Control characters except line breaks and tabs are escaped.
pub fn print(report: &str) -> Result<(), CliError> {
    write_out(&escape::text(report))
}

/// Writes generated text to standard output: escaped like reports on a terminal, and unchanged elsewhere, where it is data.
pub fn print_generated(text: &str) -> Result<(), CliError> {
    if io::stdout().is_terminal() { print(text) } else { write_out(text) }
}

/// Writes `value` as indented JSON to standard output.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|source| CliError::Json { source })?;
    write_out(&escape::json(&(text + "\n")))
}

/// Writes `value` as JSON on one line to standard output.
pub fn print_json_line(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|source| CliError::Json { source })?;
    write_out(&escape::json(&(text + "\n")))
}

/// Writes `text` to standard error, escaped, and ends the line. Errors are ignored: standard error may be closed.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape::text(text));
}

/// Writes JSON on one line to standard error.
pub fn say_json(value: &serde_json::Value) {
    let _ = writeln!(io::stderr().lock(), "{}", escape::json(&value.to_string()));
}

fn write_out(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|source| CliError::Output { source })
}

/// The writer of traces: each event is a line on standard error.
pub struct Traces;

impl<'a> MakeWriter<'a> for Traces {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Traces {
    /// The subscriber writes one event at a time, with its line break.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        writeln!(io::stderr().lock(), "{}", escape::line(text.strip_suffix('\n').unwrap_or(&text)))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A text of these lines, each escaped.
pub fn lines(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().map(|line| escape::line(&line).into_owned() + "\n").collect()
}

/// Rows in columns, two spaces apart; columns named in `right` are aligned to the right. Cells are escaped, so each row is a
/// line.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| escape::line(cell)).collect()).collect();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match right.contains(&column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The first line of `text` in at most `limit` characters, with `…` for omitted text.
pub fn shorten(text: &str, limit: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= limit && line.len() == text.len() {
        return line.to_owned();
    }
    line.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(&[row(["a", "1", "x"]), row(["bcd", "200", ""])], &[1]);
        assert_eq!(text, "a      1  x\nbcd  200\n");
        assert_eq!(table(&[], &[]), "");
    }

    #[test]
    fn rows_and_lines_are_escaped() {
        let text = table(&[vec!["a\nerror: b".to_owned(), "\u{1b}c".to_owned()], vec!["d".to_owned()]], &[]);
        assert_eq!(text, "a\\nerror: b  \\u{1b}c\nd\n");
        assert_eq!(lines(["a\nb".to_owned(), "c".to_owned()]), "a\\nb\nc\n");
    }

    #[test]
    fn omitted_text_is_marked() {
        assert_eq!(shorten("27+48=", 10), "27+48=");
        assert_eq!(shorten("one\ntwo", 10), "one…");
        assert_eq!(shorten("äöüäöü", 4), "äöü…");
    }
}
