//! Results on standard output.

use crate::error::CliError;
use serde::Serialize;
use std::io::{self, Write};

/// Writes `text` as it is, at once.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|source| CliError::Output { source })
}

/// Writes `value` as indented JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|source| CliError::Json { source })?;
    print(&(text + "\n"))
}

/// Writes `value` as JSON on one line.
pub fn print_json_line(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|source| CliError::Json { source })?;
    print(&(text + "\n"))
}

/// Rows in columns, two spaces apart; columns named in `right` are aligned to the right.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match right.contains(&column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The first line of `text` in at most `limit` characters, with `…` where something was left out.
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
    fn what_was_left_out_is_marked() {
        assert_eq!(shorten("27+48=", 10), "27+48=");
        assert_eq!(shorten("one\ntwo", 10), "one…");
        assert_eq!(shorten("äöüäöü", 4), "äöü…");
    }
}
