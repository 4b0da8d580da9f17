//! Every public type is named in its crate's test of `Send` and `Sync`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::files::rust_files;
use crate::Result;

/// The test, in the sources of each crate.
const TEST: &str = "auto_traits.rs";
/// Items that are types. Traits declare `Send` and `Sync` themselves.
const KINDS: [&str; 4] = ["struct ", "enum ", "union ", "type "];

/// A finding for each public type of the library in `directory` that its test does not name; none for a crate without a library.
pub fn check(name: &str, directory: &Path) -> Result<Vec<String>> {
    let sources = directory.join("src");
    let library = sources.join("lib.rs");
    if !library.is_file() {
        return Ok(Vec::new());
    }
    let mut declared = BTreeSet::new();
    for path in rust_files(&sources)? {
        declared.extend(declared_types(&fs::read_to_string(path)?));
    }
    let mut public = BTreeSet::new();
    collect_public(&library, true, &declared, &mut public)?;
    let test = fs::read_to_string(sources.join(TEST)).unwrap_or_default();
    let asserted: BTreeSet<&str> = identifiers(without_comments(&test)).collect();
    let missing = public.iter().filter(|name| !asserted.contains(name.as_str()));
    Ok(missing.map(|missing| format!("`{name}`: src/{TEST} does not assert `Send` of `{missing}`")).collect())
}

/// The types that the module in `file` exports: its own, those of its public modules, and re-exports of `declared` ones.
fn collect_public(
    file: &Path,
    is_root: bool,
    declared: &BTreeSet<String>,
    public: &mut BTreeSet<String>,
) -> Result<()> {
    let text = fs::read_to_string(file)?;
    public.extend(declared_types(&text));
    for statement in statements(&text, "pub use ") {
        public.extend(identifiers([statement]).filter(|name| declared.contains(*name)).map(str::to_owned));
        if let Some(module) = reexported_module(file, is_root, statement) {
            collect_public(&module, false, declared, public)?;
        }
    }
    for module in statements(&text, "pub mod ") {
        let path = module_file(file, is_root, module).ok_or_else(|| format!("no file for the module `{module}`"))?;
        collect_public(&path, false, declared, public)?;
    }
    Ok(())
}

/// Names of the public types that stand at the left margin, outside of functions and inline modules.
fn declared_types(text: &str) -> BTreeSet<String> {
    let items = text.lines().filter_map(|line| line.strip_prefix("pub "));
    let names = items.filter_map(|item| KINDS.iter().find_map(|kind| item.strip_prefix(kind)));
    names.filter_map(|rest| identifiers([rest]).next()).map(str::to_owned).collect()
}

/// The text between each `start` at the left margin and the next semicolon, without inline modules.
fn statements<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    let starts = text.match_indices(start).filter(|&(at, _)| at == 0 || text[..at].ends_with('\n'));
    let statements = starts.filter_map(move |(at, _)| text[at + start.len()..].split_once(';'));
    statements.map(|(statement, _)| statement).filter(move |statement| start == "pub use " || !statement.contains('{'))
}

/// The file of a module that the module in `file` declares.
fn module_file(file: &Path, is_root: bool, module: &str) -> Option<PathBuf> {
    let is_folder = is_root || file.file_name().is_some_and(|name| name == "mod.rs");
    let folder = if is_folder { file.parent()?.to_owned() } else { file.with_extension("") };
    let candidates = [folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs")];
    candidates.into_iter().find(|path| path.is_file())
}

/// The file of the module that `pub use statement` re-exports, if it is one of this crate.
fn reexported_module(file: &Path, is_root: bool, statement: &str) -> Option<PathBuf> {
    let mut segments = statement.trim_start_matches("crate::").split("::");
    let first = module_file(file, is_root, segments.next()?)?;
    segments.try_fold(first, |parent, segment| module_file(&parent, false, segment))
}

fn without_comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code))
}

fn identifiers<'a>(texts: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let is_other = |character: char| !character.is_alphanumeric() && character != '_';
    texts.into_iter().flat_map(move |text| text.split(is_other)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_type_that_the_test_does_not_name_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join("src").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let findings = || check("x", directory.path()).unwrap();
        assert_eq!(findings(), Vec::<String>::new(), "a program without a library");

        write(
            "lib.rs",
            "mod a;\npub mod b;\nmod c;\npub mod inline { }\npub use a::{\n    A, run,\n};\npub use c::open;\npub use other::B as C;\n",
        );
        write("a.rs", "pub struct A;\npub(crate) struct Inner;\npub enum NotExported {}\npub fn run() {}\n");
        write("b/mod.rs", "pub mod deep;\npub trait T {}\npub const MOST: usize = 1;\n");
        write("b/deep.rs", "pub type Alias<'a> = &'a str;\n#[cfg(test)]\nmod tests {\n    pub struct OfTests;\n}\n");
        write("c/mod.rs", "pub mod open;\npub struct Closed;\n");
        write("c/open.rs", "pub struct Open;\n");
        let missing = |name: &str| format!("`x`: src/auto_traits.rs does not assert `Send` of `{name}`");
        assert_eq!(findings(), [missing("A"), missing("Alias"), missing("Open")]);

        write("auto_traits.rs", "// Alias, with `A` in a comment\nis_send::<crate::b::deep::Alias<'_>>();\n");
        assert_eq!(findings(), [missing("A"), missing("Open")]);
        write(
            "auto_traits.rs",
            "is_send::<crate::A>();\nis_send::<crate::b::deep::Alias<'_>>();\nis_send::<crate::open::Open>();\n",
        );
        assert_eq!(findings(), Vec::<String>::new());
    }
}
