//! The part of a document between two comments, which a run replaces.

use crate::Result;
use std::{fs, path::Path};

/// Replaces the section `name` of the document at `path` by `body`.
pub fn write(path: &Path, name: &str, body: &str) -> Result<()> {
    let text = fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let text = replace(&text, name, body).map_err(|error| format!("{}: {error}", path.display()))?;
    fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    eprintln!("{} is updated", path.display());
    Ok(())
}

fn replace(text: &str, name: &str, body: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- bench-{name}: begin -->"), format!("<!-- bench-{name}: end -->"));
    let missing = || format!("it has no section between the lines `{begin}` and `{end}`");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    if after.contains(&begin) {
        return Err(format!("it has two sections `{begin}`"));
    }
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", body.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A\n\n<!-- bench-peers: begin -->\nold\n<!-- bench-peers: end -->\n\n<!-- bench-growth: begin -->\n\
                        g\n<!-- bench-growth: end -->\nlast\n";

    #[test]
    fn only_the_section_changes() {
        let once = replace(TEXT, "peers", "new\n").unwrap();
        assert!(once.starts_with(
            "# A\n\n<!-- bench-peers: begin -->\n\nnew\n\n<!-- bench-peers: end -->\n\n<!-- bench-growth"
        ));
        assert!(once.ends_with("\ng\n<!-- bench-growth: end -->\nlast\n") && !once.contains("old"));
        assert_eq!(replace(&once, "peers", "new").unwrap(), once);
    }

    #[test]
    fn a_document_without_the_section_is_left_alone() {
        assert!(replace("# A\n", "peers", "new").unwrap_err().contains("bench-peers: begin"));
        assert!(replace("<!-- bench-peers: end --><!-- bench-peers: begin -->", "peers", "new").is_err());
        assert!(replace(&TEXT.repeat(2), "peers", "new").is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "mine").unwrap();
        assert!(write(file.path(), "peers", "new").is_err());
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "mine");
    }
}
