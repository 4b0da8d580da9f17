//! Names for error messages: the entries of a directory, and names similar to one that was not found.

use std::{fs, path::Path};

/// Maximum of directory entries that are read for a message.
const ENTRIES: usize = 10_000;
/// Names in a message.
const NAMES: usize = 12;
/// Similar names in a message.
const NEAREST: usize = 3;
/// Jaro-Winkler similarity from which a name counts as similar.
const SIMILAR: f64 = 0.7;

/// Names in `directory`, sorted; directories end in `/`. Empty if it cannot be read, since this is only for messages.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .take(ENTRIES)
        .filter_map(Result::ok)
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    names
}

/// The first names and, if there are more, the number of the rest.
pub(crate) fn first_few(mut names: Vec<String>) -> Vec<String> {
    if names.len() > NAMES {
        let left_out = names.len() - (NAMES - 1);
        names.truncate(NAMES - 1);
        names.push(format!("{left_out} more"));
    }
    names
}

/// Directories beside `path` with a similar name, nearest first, as paths.
pub(crate) fn directories_near(path: &Path) -> Vec<String> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Vec::new() };
    let listed = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directories = names_in(listed).into_iter().filter_map(|name| name.strip_suffix('/').map(str::to_owned));
    let nearest = nearest(&name.to_string_lossy(), directories);
    nearest.into_iter().map(|name| parent.join(name).display().to_string()).collect()
}

/// The names that resemble `wanted`, nearest first.
pub(crate) fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, String)> = names
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= SIMILAR)
        .collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    scored.into_iter().take(NEAREST).map(|(_, name)| name).collect()
}

/// `; the cache has a, b`, or nothing without names.
pub(crate) fn listed(introduction: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{introduction} {}", names.join(", ")) }
}

/// `a, b`, or `nothing`.
pub(crate) fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
