//! Words that mark unfinished work, which published sources do not have.

const WORDS: [&str; 6] = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!"];

/// One finding for each line of `text` with such a word. Part of a longer word does not count.
pub fn check(file: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let marked = lines.filter_map(|(index, line)| Some((index + 1, WORDS.iter().find(|word| has_word(line, word))?)));
    marked.map(|(line, word)| format!("{file}:{line} has `{word}`: finish it, or open an issue")).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_letter) && !after.is_some_and(is_letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found_with_their_line() {
        let text = "fn a() {}\n// TODO: finish\nlet maXXXimum = TODOS;\n    todo!()\n";
        let findings = check("lib.rs", text);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("lib.rs:2 ") && findings[1].starts_with("lib.rs:4 "));
    }
}
