//! Checks revisions: a branch, a tag, `refs/pr/1`, or a commit.

use crate::{HubError, file_name::is_contained};

/// The default revision of a repo.
pub(crate) const DEFAULT: &str = "main";
/// Hexadecimal digits of a commit.
const COMMIT: usize = 40;
/// Minimum of digits of a short commit, as in git.
const SHORT_COMMIT: usize = 4;
/// Maximum length of a revision in bytes.
const LONGEST: usize = 255;
/// Characters that git forbids in the name of a reference.
const FORBIDDEN: [char; 6] = ['~', '^', '?', '*', '[', ' '];

/// Refuses names that git does not allow for a ref, above all those that would leave the directory `refs`.
pub(crate) fn check(revision: &str) -> Result<(), HubError> {
    let reason = if revision.is_empty() {
        "it is empty"
    } else if revision.len() > LONGEST {
        "it is longer than 255 bytes"
    } else if revision.contains(FORBIDDEN) {
        "it has a space or one of ~ ^ ? * ["
    } else if revision.contains("..") || !is_contained(revision) {
        "it is not a plain relative name (no `..`, no backslash, no colon, no empty part)"
    } else if revision.starts_with('-') {
        "it begins with `-`"
    } else {
        return Ok(());
    };
    Err(HubError::InvalidRevision { revision: revision.to_owned(), reason })
}

/// Whether `text` is a full commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == COMMIT && is_hexadecimal(text)
}

/// Whether `text` can be the beginning of a commit.
pub(crate) fn is_short_commit(text: &str) -> bool {
    (SHORT_COMMIT..=COMMIT).contains(&text.len()) && is_hexadecimal(text)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_references_and_commits_are_revisions() {
        for revision in ["main", "v1.0", "refs/pr/1", "feature/long-context", "0123abcd", &"a".repeat(40)] {
            assert!(check(revision).is_ok(), "{revision}");
        }
    }

    #[test]
    fn hostile_revisions_are_refused() {
        for revision in
            ["", "..", "../main", "a/../../b", "/main", "a\\b", "C:main", "a b", "a\0", "a..b", "--upload", "a/"]
        {
            assert!(matches!(check(revision), Err(HubError::InvalidRevision { .. })), "{revision:?}");
        }
        assert!(check(&"a".repeat(256)).is_err());
    }

    #[test]
    fn commits_are_lower_case_hexadecimal() {
        assert!(is_commit(&"0123456789abcdef".repeat(3)[..40]));
        assert!(!is_commit(&"A".repeat(40)) && !is_commit("abcd") && !is_commit(&"g".repeat(40)));
        assert!(is_short_commit("abcd") && !is_short_commit("abc") && !is_short_commit("main"));
    }
}
