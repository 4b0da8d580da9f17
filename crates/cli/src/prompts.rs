//! Prompts from files and from standard input.

use crate::error::CliError;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Maximum bytes of a prompt: some sixteen million tokens, longer than the context of any model.
const LIMIT: u64 = 64 << 20;
const STDIN: &str = "standard input";

/// The text of a file, without the line break at its end.
pub fn from_file(path: &Path) -> Result<String, CliError> {
    let origin = path.display().to_string();
    match File::open(path) {
        Ok(file) => read(file, origin),
        Err(source) => Err(CliError::UnreadablePrompt { origin, source }),
    }
}

/// All of standard input, without the line break at its end.
pub fn from_stdin() -> Result<String, CliError> {
    read(io::stdin().lock(), STDIN.to_owned())
}

/// The next line of standard input, without its line break; `None` at the end.
pub fn line_from_stdin() -> Result<Option<String>, CliError> {
    let mut bytes = Vec::new();
    let origin = || STDIN.to_owned();
    let mut line = io::stdin().lock().take(LIMIT + 1);
    match line.read_until(b'\n', &mut bytes) {
        Ok(0) => Ok(None),
        Ok(_) => text(bytes, origin()).map(Some),
        Err(source) => Err(CliError::UnreadablePrompt { origin: origin(), source }),
    }
}

fn read(reader: impl Read, origin: String) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    match reader.take(LIMIT + 1).read_to_end(&mut bytes) {
        Ok(_) => text(bytes, origin),
        Err(source) => Err(CliError::UnreadablePrompt { origin, source }),
    }
}

fn text(bytes: Vec<u8>, origin: String) -> Result<String, CliError> {
    if bytes.len() as u64 > LIMIT {
        return Err(CliError::PromptTooLarge { origin, limit: LIMIT });
    }
    if let Some(encoding) = other_encoding(&bytes) {
        return Err(CliError::PromptInOtherEncoding { origin, encoding });
    }
    let bytes = match bytes.strip_prefix("\u{feff}".as_bytes()) {
        // Some editors put a byte order mark before UTF-8 too; it is not part of the text.
        Some(rest) => rest.to_vec(),
        None => bytes,
    };
    let mut text = String::from_utf8(bytes)
        .map_err(|error| CliError::PromptEncoding { origin, offset: error.utf8_error().valid_up_to() })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// The encoding of bytes that are not UTF-8: by their byte order mark, or by a zero in every second byte, as in UTF-16 text of European
/// languages.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    let zeros = |parity: usize| bytes.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let is_most = |zeros: usize| bytes.len() >= 4 && bytes.len().is_multiple_of(2) && zeros * 4 > bytes.len();
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ if is_most(zeros(0)) || is_most(zeros(1)) => Some("UTF-16"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_dropped() {
        for (bytes, expected) in [("27+48=\n", "27+48="), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", "")] {
            assert_eq!(read(bytes.as_bytes(), String::new()).unwrap(), expected);
        }
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_utf_16_is_named() {
        assert_eq!(read("\u{feff}27+48=\n".as_bytes(), String::new()).unwrap(), "27+48=");
        assert_eq!(read("a\u{feff}\0b".as_bytes(), String::new()).unwrap(), "a\u{feff}\0b");
        let wide = |text: &str, to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
        let marked = wide("\u{feff}27+48=", u16::to_le_bytes);
        for bytes in [marked, wide("\u{feff}é", u16::to_be_bytes), wide("27+48=\n", u16::to_le_bytes)] {
            let error = read(bytes.as_slice(), "FILE".to_owned()).unwrap_err();
            assert_eq!(error.to_string(), "the prompt from FILE is text in UTF-16: save it as UTF-8");
        }
    }

    #[test]
    fn bad_bytes_are_located_and_endless_files_end() {
        let error = read(&b"ab\xff"[..], "FILE".to_owned()).unwrap_err();
        assert!(matches!(error, CliError::PromptEncoding { offset: 2, .. }), "{error}");
        let error = read(io::repeat(b'a'), "FILE".to_owned()).unwrap_err();
        assert!(matches!(error, CliError::PromptTooLarge { .. }), "{error}");
    }
}
