//! Files that every published crate has: a README, an example, the workspace's lints, and files of readable length.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{words, workspace::Member};
use crate::{Result, arrows::WITHOUT_EXAMPLE};

/// Most lines of a source file.
const LINES: usize = 500;

pub fn check_crate(member: &Member) -> Result<Vec<String>> {
    let name = &member.name;
    let mut findings = Vec::new();
    if !member.directory.join("README.md").is_file() {
        findings.push(format!("`{name}` has no README.md"));
    }
    if !WITHOUT_EXAMPLE.contains(&name.as_str()) && rust_files(&member.directory.join("examples"))?.is_empty() {
        findings.push(format!("`{name}` has no example in examples/*.rs"));
    }
    if !inherits_lints(&fs::read_to_string(member.directory.join("Cargo.toml"))?) {
        findings
            .push(format!("`{name}` does not inherit the workspace's lints: add `[lints]` with `workspace = true`"));
    }
    for path in rust_files(&member.directory)? {
        let text = fs::read_to_string(&path)?;
        let file = path.strip_prefix(&member.directory).unwrap_or(&path).display();
        findings.extend(check_source(&format!("{name}: {file}"), &text));
    }
    Ok(findings)
}

/// The lints of the workspace deny items without documentation.
pub fn check_workspace_lints(manifest: &str) -> Option<String> {
    let denies = has_entry(manifest, "[workspace.lints.rust]", "missing_docs = \"deny\"");
    (!denies).then(|| "[workspace.lints.rust] in Cargo.toml does not deny missing_docs".to_owned())
}

fn inherits_lints(manifest: &str) -> bool {
    has_entry(manifest, "[lints]", "workspace = true")
}

/// Whether the section of a manifest has the line, spaces aside.
fn has_entry(manifest: &str, section: &str, entry: &str) -> bool {
    let lines = manifest.lines().map(str::trim);
    let mut body = lines.skip_while(|line| *line != section).skip(1).take_while(|line| !line.starts_with('['));
    body.any(|line| line.replace(' ', "") == entry.replace(' ', ""))
}

fn check_source(file: &str, text: &str) -> Vec<String> {
    let mut findings = words::check(file, text);
    let lines = text.lines().count();
    if lines > LINES {
        findings.push(format!("{file} has {lines} lines, more than {LINES}: cut it into files of one idea each"));
    }
    findings
}

/// The `.rs` files below `directory`, sorted; empty if it does not exist.
pub fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() && entry.file_name() != "target" {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn member(directory: &Path) -> Member {
        Member {
            name: "config".to_owned(),
            directory: directory.to_owned(),
            is_published: true,
            imports: BTreeSet::new(),
            libraries: BTreeSet::new(),
            reaches: BTreeSet::new(),
        }
    }

    #[test]
    fn a_complete_crate_has_no_findings_and_an_empty_one_has_three() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("Cargo.toml", "[package]\nname = \"x\"\n");
        assert_eq!(check_crate(&member(directory.path())).unwrap().len(), 3);

        fs::create_dir(directory.path().join("examples")).unwrap();
        write("Cargo.toml", "[lints]\nworkspace = true\n");
        write("README.md", "# x\n");
        write("examples/x.rs", "fn main() {}\n");
        assert_eq!(check_crate(&member(directory.path())).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn long_files_are_findings() {
        assert!(check_source("a.rs", &"x\n".repeat(LINES)).is_empty());
        assert_eq!(check_source("a.rs", &"x\n".repeat(LINES + 1)).len(), 1);
    }

    #[test]
    fn entries_belong_to_their_section() {
        assert!(inherits_lints("[package]\n[lints]\nworkspace=true\n"));
        assert!(!inherits_lints("[lints]\n[dependencies]\nworkspace = true\n"));
        assert!(check_workspace_lints("[workspace.lints.rust]\nmissing_docs = \"deny\"\n").is_none());
        assert!(check_workspace_lints("[workspace.lints.rust]\nmissing_docs = \"warn\"\n").is_some());
    }
}
