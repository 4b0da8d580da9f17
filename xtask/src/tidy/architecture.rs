//! The architecture document describes every published crate.

use super::{ARCHITECTURE, workspace::Workspace};

/// A finding for each published crate without a heading or a table row of its own.
pub fn check(workspace: &Workspace, document: &str) -> Vec<String> {
    let undescribed = workspace.published().filter(|member| !describes(document, &member.name));
    undescribed.map(|member| format!("{ARCHITECTURE} has no heading or table row for `{}`", member.name)).collect()
}

/// Whether a heading, or the first cell of a table row, names the crate in backticks, by its short or its full name.
fn describes(document: &str, name: &str) -> bool {
    let names = [format!("`{name}`"), format!("`automodel-{name}`")];
    document.lines().any(|line| {
        let subject = match line.trim_start().strip_prefix('|') {
            Some(row) => row.split('|').next().unwrap_or_default(),
            None if line.starts_with('#') => line,
            None => return false,
        };
        names.iter().any(|name| subject.contains(name.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_and_first_cells_describe_a_crate() {
        let document = "## `config`\n| crate | may import |\n| `automodel-hub` | `quant` |\nprose about `loader`\n";
        assert!(describes(document, "config") && describes(document, "hub"));
        assert!(!describes(document, "quant") && !describes(document, "loader") && !describes(document, "models"));
    }
}
