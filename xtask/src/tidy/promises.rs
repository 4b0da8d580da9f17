//! Documents that promise something name the tests that keep it, and those exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Result;

/// The documents, below the root of the workspace.
const DOCUMENTS: [&str; 2] = ["docs/security.md", "docs/hub.md"];
/// The heading of the column that names tests.
const HEADING: &str = "test";

/// A finding for each test or file in a table's column of tests that does not exist, and for each promise without any.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        let path = root.join(document);
        if path.is_file() {
            findings.extend(check_document(root, document, &fs::read_to_string(path)?)?);
        }
    }
    Ok(findings)
}

fn check_document(root: &Path, document: &str, text: &str) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut table: Option<Table> = None;
    let mut folder = PathBuf::new();
    for (number, line) in text.lines().enumerate() {
        let Some(row) = line.trim().strip_prefix('|') else {
            table = None;
            // The text before a table may say where files without a folder are.
            folder = quoted(line).map(|name| root.join(name)).filter(|path| path.is_dir()).last().unwrap_or(folder);
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Some(Table { column, folder }) = &table else {
            table = Some(Table::with_heading(root, &cells, &folder));
            continue;
        };
        let Some(cell) = column.and_then(|column| cells.get(column)) else { continue };
        let is_line = !cell.is_empty() && cell.chars().all(|character| "-:".contains(character));
        if !is_line && quoted(cell).next().is_none() {
            findings.push(format!("{document}:{} is a promise without a test", number + 1));
        }
        let missing = missing(root, folder, cell)?.into_iter();
        findings.extend(missing.map(|missing| format!("{document}:{} names {missing}", number + 1)));
    }
    Ok(findings)
}

/// The column of tests, if the table has one, and the folder that its heading or the text before it names.
struct Table {
    column: Option<usize>,
    folder: PathBuf,
}

impl Table {
    fn with_heading(root: &Path, cells: &[&str], folder: &Path) -> Self {
        let column = cells.iter().position(|cell| cell.starts_with(HEADING));
        let named = column.and_then(|column| quoted(cells[column]).next());
        Self { column, folder: named.map_or(folder.to_owned(), |named| root.join(named)) }
    }
}

/// Missing files and functions that a cell names: files, with a path or in the folder of the heading, and functions of the file before them.
fn missing(root: &Path, folder: &Path, cell: &str) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut file: Option<(String, String)> = None;
    for name in quoted(cell).flat_map(alternatives) {
        if name.contains('.') || name.contains('/') {
            let path = if name.contains('/') { root.join(&name) } else { folder.join(&name) };
            file = None;
            if path.is_file() {
                file = Some((name, fs::read_to_string(path)?));
            } else if !path.is_dir() {
                missing.push(format!("`{name}`, which does not exist"));
            }
        } else if let Some((path, text)) = &file
            && !text.contains(&format!("fn {name}("))
        {
            missing.push(format!("`{name}`, which is not a function in `{path}`"));
        } else if file.is_none() {
            missing.push(format!("`{name}` without a file before it"));
        }
    }
    Ok(missing)
}

/// The names that `a/{b,c}.rs` stands for.
fn alternatives(name: &str) -> Vec<String> {
    match name.split_once('{').and_then(|(start, rest)| Some((start, rest.split_once('}')?))) {
        Some((start, (list, end))) => list.split(',').map(|one| format!("{start}{one}{end}")).collect(),
        None => vec![name.to_owned()],
    }
}

/// Texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_are_not_there_are_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("tests")).unwrap();
        fs::write(root.path().join("tests/a.rs"), "#[test]\nfn there() {}\n").unwrap();
        let check = |text: &str| check_document(root.path(), "x.md", text).unwrap();

        let table = |cell: &str| format!("| promise | test |\n|---|---|\n| it holds | {cell} |\n");
        assert_eq!(check(&table("`tests/a.rs` `there`")), Vec::<String>::new());
        assert_eq!(
            check(&table("`tests/a.rs`: `gone`")),
            ["x.md:3 names `gone`, which is not a function in `tests/a.rs`"]
        );
        assert_eq!(check(&table("`tests/b.rs`")), ["x.md:3 names `tests/b.rs`, which does not exist"]);
        assert_eq!(check(&table("`there`")), ["x.md:3 names `there` without a file before it"]);
        assert_eq!(check(&table("")), ["x.md:3 is a promise without a test"]);
    }

    #[test]
    fn a_heading_can_name_the_folder_and_other_tables_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("tests")).unwrap();
        fs::write(root.path().join("tests/a.rs"), "").unwrap();
        let text = "| promise | tested in `tests` |\n|---|---|\n| it holds | `a.rs` |\n| it too | `b.rs` |\n\n| a | b |\n|---|---|\n| x | `y` |\n";
        let findings = check_document(root.path(), "x.md", text).unwrap();
        assert_eq!(findings, ["x.md:4 names `b.rs`, which does not exist"]);

        let text = "Files are in `tests`.\n\n| promise | tested in |\n|---|---|\n| it holds | `{a,b}.rs` |\n";
        let findings = check_document(root.path(), "x.md", text).unwrap();
        assert_eq!(findings, ["x.md:5 names `b.rs`, which does not exist"]);
    }
}
