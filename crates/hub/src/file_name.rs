//! Checks file names from outside before they are joined to a directory.

/// Names that are devices on Windows, with or without an extension.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
/// Maximum length of a name in bytes.
const LONGEST: usize = 1024;

/// Whether `name`, joined to a directory, stays inside it on POSIX and on Windows alike.
///
/// Both sets of rules apply everywhere, so that a checkpoint is accepted or refused on every system alike.
pub(crate) fn is_contained(name: &str) -> bool {
    name.len() <= LONGEST && name.split('/').all(is_plain_component)
}

/// No separator, drive (`C:`), stream (`a:b`) or control character, not `.` or `..`, no device, and not ending in the dots
/// and spaces that Windows drops (so that `.. ` is `..` there).
fn is_plain_component(component: &str) -> bool {
    !component.is_empty()
        && !component.ends_with(['.', ' '])
        && !component.contains(['\\', ':'])
        && !component.contains(char::is_control)
        && !is_device(component)
}

fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = ["COM", "LPT"].iter().any(|prefix| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|byte| byte.is_ascii_digit()))
    });
    numbered || DEVICES.contains(&stem.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_checkpoints_are_contained() {
        for name in
            ["config.json", "model-00001-of-00002.safetensors", "original/params.json", ".hidden", "console.txt"]
        {
            assert!(is_contained(name), "{name}");
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_not() {
        let hostile = [
            "",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            ".",
            "a\0b",
            "a\nb",
            "..\\a",
            "\\\\server\\share",
            "\\\\?\\C:\\a",
            "C:\\a",
            "C:a",
            "C:/a",
            "//server/share",
            "a:stream",
            ".. /a",
            "... ",
            "NUL",
            "nul.txt",
            "a/CON",
            "com1.json",
            "LPT9",
        ];
        for name in hostile {
            assert!(!is_contained(name), "{name:?}");
        }
        assert!(!is_contained(&"a".repeat(LONGEST + 1)));
    }
}
