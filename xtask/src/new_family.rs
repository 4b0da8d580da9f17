//! `cargo xtask new-family`: a family that begins as a copy of another. `docs/adding-a-family.md` has the steps before and after.

use crate::{Result, workspace_root};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

const FAMILIES: &str = "crates/registry/src/families";
const UNSUPPORTED: &str = "crates/registry/src/unsupported.rs";
const CASES: &str = "tests/fixtures/generate";

#[derive(Args)]
pub struct Arguments {
    /// `model_type` of the new family, as config.json spells it.
    name: String,
    /// The supported family that it begins as.
    #[arg(long, value_name = "FAMILY")]
    like: String,
    /// Its architecture, if not NameForCausalLM.
    #[arg(long)]
    architecture: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    for file in add(&workspace_root(), arguments)? {
        println!("{file}");
    }
    println!(
        "\nNow steps 2 to 4 of docs/adding-a-family.md: make it what its class computes, make its fixtures, run the tests."
    );
    Ok(())
}

/// Writes all files, and returns what was done, a line for each. Nothing is written unless everything can be.
fn add(root: &Path, arguments: &Arguments) -> Result<Vec<String>> {
    let Arguments { name, like, .. } = arguments;
    let is_plain = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|character| {
                character.is_ascii_lowercase() || character.is_ascii_digit() || "_-".contains(character)
            })
    };
    if !is_plain(name) {
        return Err(
            format!("`{name}` is not a model type: lower-case letters, digits, `_` and `-`, a letter first").into()
        );
    }
    let model = file_of(root, like)?.ok_or_else(|| format!("no family has the model type `{like}`"))?;
    if file_of(root, name)?.is_some() {
        return Err(format!("the family `{name}` exists").into());
    }
    let module = name.replace('-', "_");
    let architecture = arguments.architecture.clone().unwrap_or_else(|| format!("{}ForCausalLM", camel(name)));
    let folder = model.parent().unwrap_or(root).to_owned();
    let file = folder.join(format!("{module}.rs"));
    let list = root.join(FAMILIES).join("mod.rs");
    let lineage = folder.join("mod.rs");

    let mut files = vec![(file, family(&fs::read_to_string(&model)?, name, like, &architecture))];
    let mut listed = fs::read_to_string(&list)?;
    let path = if folder == root.join(FAMILIES) {
        listed = with_line(&listed, "mod ", &format!("mod {module};"));
        format!("{module}::FAMILY")
    } else {
        files.push((
            lineage.clone(),
            with_line(&fs::read_to_string(&lineage)?, "pub mod ", &format!("pub mod {module};")),
        ));
        format!("{}::{module}::FAMILY", folder.file_name().unwrap_or_default().to_string_lossy())
    };
    files.push((list, with_line(&listed, "    &", &format!("    &{path},"))));
    let unsupported = root.join(UNSUPPORTED);
    files.push((unsupported.clone(), without_name(&fs::read_to_string(&unsupported)?, name)));
    files.push(case(root, name, like)?);

    let mut done = Vec::new();
    for (path, text) in files {
        let known = fs::read_to_string(&path).unwrap_or_default();
        if known != text {
            let verb = if known.is_empty() { "wrote" } else { "changed" };
            done.push(format!("{verb} {}", path.strip_prefix(root).unwrap_or(&path).display()));
            fs::write(path, text)?;
        }
    }
    Ok(done)
}

/// The file of a family: that which has its model type.
fn file_of(root: &Path, model_type: &str) -> Result<Option<PathBuf>> {
    let line = format!("    model_type: \"{model_type}\",\n");
    let mut folders = vec![root.join(FAMILIES)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && fs::read_to_string(&path)?.contains(&line)
            {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// `glm4_moe` as `Glm4Moe`.
fn camel(name: &str) -> String {
    let words = name.split(['_', '-']);
    words.map(|word| word[..1.min(word.len())].to_uppercase() + word.get(1..).unwrap_or("")).collect()
}

/// The text of the family's file: that of the other one under its own names.
fn family(model: &str, name: &str, like: &str, architecture: &str) -> String {
    let mut text = format!("//! {name}: begun as `{like}`. Say what it is and how it differs.\n");
    let body = model.lines().skip_while(|line| line.starts_with("//!"));
    for line in body {
        if line.trim_start().starts_with("model_type: \"") {
            text.push_str(&format!("    model_type: \"{name}\",\n"));
        } else if line.trim_start().starts_with("architectures: &[") {
            text.push_str(&format!("    architectures: &[\"{architecture}\"],\n"));
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The text with `line` among the first run of lines that begin with `start`, in order.
fn with_line(text: &str, start: &str, line: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(first) = lines.iter().position(|known| known.starts_with(start)) else { return text.to_owned() };
    let run = lines[first..].iter().take_while(|known| known.starts_with(start));
    let place = first + run.take_while(|known| **known < line).count();
    let (before, after) = lines.split_at(place);
    [before, &[line], after].concat().join("\n") + "\n"
}

/// `unsupported.rs` without the name, and without a reason that no name is left for.
fn without_name(text: &str, name: &str) -> String {
    let quoted = format!("\"{name}\"");
    let Some(at) = text.find(&format!("{quoted},")).or_else(|| text.find(&format!("{quoted}]"))) else {
        return text.to_owned();
    };
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let rest = &text[at + quoted.len()..];
    if text[line..at].trim().is_empty() && rest.starts_with(",\n") {
        // Alone on its line.
        return [&text[..line], &rest[2..]].concat();
    }
    if let Some(rest) = rest.strip_prefix(", ") {
        return [&text[..at], rest].concat();
    }
    if let Some(start) = text[..at].strip_suffix(", ") {
        return [start, rest].concat();
    }
    // The only name of its reason: the tuple goes.
    let tuple = text[..at].rfind("    (").unwrap_or(line);
    let end = rest.find("),\n").map_or(rest.len(), |end| end + "),\n".len());
    [&text[..tuple], &rest[end..]].concat()
}

/// The file of cases that has the main case of `like`, with a row for `name` behind it.
fn case(root: &Path, name: &str, like: &str) -> Result<(PathBuf, String)> {
    let start = format!("    Case(\n        \"{like}\",\n");
    for entry in fs::read_dir(root.join(CASES))? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|file| file.to_string_lossy().starts_with("cases_")) {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let Some(at) = text.find(&start) else { continue };
        let end =
            text[at..].find("\n    ),\n").map(|end| at + end + "\n    ),\n".len()).ok_or("a case without an end")?;
        let mut row = text[at..end].replacen(&format!("\"{like}\""), &format!("\"{name}\""), 1);
        let model_type = format!("model_type=\"{name}\",");
        if name.contains('-') && !row.contains(&model_type) {
            // The name of a case is its model type only up to the first `-`.
            let close = row.len() - "    ),\n".len();
            row.insert_str(close, &format!("        {model_type}\n"));
        }
        return Ok((path, [&text[..end], &row, &text[end..]].concat()));
    }
    Err(format!("no file cases_*.py has a case `{like}`").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in ["mod.rs", "llama.rs", "glm/mod.rs", "glm/glm4.rs"] {
            copy_file(root.path(), &format!("{FAMILIES}/{file}"));
        }
        copy_file(root.path(), UNSUPPORTED);
        for file in ["cases_llama.py", "cases_other.py"] {
            copy_file(root.path(), &format!("{CASES}/{file}"));
        }
        root
    }

    fn copy_file(root: &Path, path: &str) {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::copy(workspace_root().join(path), root.join(path)).unwrap();
    }

    fn arguments(name: &str, like: &str) -> Arguments {
        Arguments { name: name.to_owned(), like: like.to_owned(), architecture: None }
    }

    fn read(root: &Path, path: &str) -> String {
        fs::read_to_string(root.join(path)).unwrap()
    }

    #[test]
    fn a_family_alone() {
        let root = copy();
        let done = add(root.path(), &arguments("zz_new", "llama")).unwrap();
        assert_eq!(done.len(), 3, "{done:?}");
        let file = read(root.path(), &format!("{FAMILIES}/zz_new.rs"));
        assert!(file.starts_with("//! zz_new: begun as `llama`"), "{file}");
        assert!(
            file.contains("model_type: \"zz_new\"")
                && file.contains("[\"ZzNewForCausalLM\"]")
                && file.contains("fn lower")
        );
        let list = read(root.path(), &format!("{FAMILIES}/mod.rs"));
        assert!(list.contains("\nmod zz_new;\n"), "{list}");
        assert!(list.contains(",\n    &zz_new::FAMILY,\n];\n"), "{list}");
        let cases = read(root.path(), &format!("{CASES}/cases_llama.py"));
        assert_eq!(cases.matches("    Case(\n        \"zz_new\",\n").count(), 1);
        let again = add(root.path(), &arguments("zz_new", "llama")).unwrap_err().to_string();
        assert!(again.contains("exists"), "{again}");
    }

    #[test]
    fn a_family_of_a_lineage() {
        let root = copy();
        add(root.path(), &arguments("glm-9", "glm4")).unwrap();
        assert!(read(root.path(), &format!("{FAMILIES}/glm/glm_9.rs")).contains("super::DEFAULTS"));
        assert!(read(root.path(), &format!("{FAMILIES}/glm/mod.rs")).contains("pub mod glm_9;\n"));
        assert!(read(root.path(), &format!("{FAMILIES}/mod.rs")).contains("    &glm::glm_9::FAMILY,\n"));
        let cases = read(root.path(), &format!("{CASES}/cases_other.py"));
        assert!(cases.contains("        model_type=\"glm-9\",\n    ),\n"), "{cases}");
    }

    #[test]
    fn nothing_is_written_for_names_that_cannot_be() {
        let root = copy();
        for (name, like, part) in
            [("x/y", "llama", "not a model type"), ("New", "llama", "not a model type"), ("new", "lama", "no family")]
        {
            let said = add(root.path(), &arguments(name, like)).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(read(root.path(), UNSUPPORTED), fs::read_to_string(workspace_root().join(UNSUPPORTED)).unwrap());
    }

    #[test]
    fn a_name_leaves_the_list_of_the_unsupported() {
        let text = "    (\"a\", &[\"x\", \"y\"]),\n    (\n        \"b\",\n        &[\n            \"z\",\n            \"v\",\n        ],\n    ),\n    (\"c\", &[\"w\"]),\n";
        assert!(without_name(text, "x").starts_with("    (\"a\", &[\"y\"]),\n"));
        assert!(without_name(text, "y").starts_with("    (\"a\", &[\"x\"]),\n"));
        assert!(without_name(text, "z").contains("        &[\n            \"v\",\n        ],\n"));
        assert!(without_name(text, "w").ends_with("    ),\n"));
        assert_eq!(without_name(text, "other"), text);
    }
}
