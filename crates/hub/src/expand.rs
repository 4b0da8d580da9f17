//! Variables in the values of variables, as Python's `os.path.expandvars` replaces them.

use std::{ffi::OsString, path::PathBuf};

/// `path` with `$NAME` and `${NAME}`, and on Windows `%NAME%`, replaced by the values of variables. References to unset variables stay as
/// they are, and values are not expanded again.
pub(crate) fn expanded(path: PathBuf, variable: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let Some(mut rest) = path.to_str().filter(|path| path.contains(['$', '%'])) else { return path };
    let mut result = OsString::new();
    while let Some(start) = rest.find(|character| character == '$' || (cfg!(windows) && character == '%')) {
        let (before, from_mark) = rest.split_at(start);
        result.push(before);
        let (mark, name) = first_reference(from_mark);
        match name.and_then(variable) {
            Some(value) => result.push(value),
            None => result.push(mark),
        }
        rest = from_mark.strip_prefix(mark).unwrap_or_default();
    }
    result.push(rest);
    result.into()
}

/// The reference at the beginning of `text` and the name in it, or else the first character.
fn first_reference(text: &str) -> (&str, Option<&str>) {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let (mark, after) = text.split_at(1);
    let enclosed = match (mark, after.strip_prefix('{')) {
        ("$", Some(inner)) => inner.split_once('}').map(|(name, _)| (name, name.len() + 3)),
        ("%", _) => after.split_once('%').map(|(name, _)| (name, name.len() + 2)),
        _ => {
            let length = after.find(|character| !is_word(character)).unwrap_or(after.len());
            (length > 0).then(|| (after.get(..length).unwrap_or_default(), length + 1))
        }
    };
    match enclosed {
        Some((name, length)) => (text.get(..length).unwrap_or(text), Some(name)),
        None => (mark, None),
    }
}
