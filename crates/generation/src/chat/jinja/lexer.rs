//! From source to tokens, with the whitespace removed as `trim_blocks` and `lstrip_blocks` require.

use super::error::{Error, Result};
use super::text::is_space;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Text(String),
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

/// Longer ones first.
const OPERATORS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",",
];

pub(super) struct Lexer<'s> {
    source: &'s str,
    position: usize,
    line: usize,
    tokens: Vec<(Token, usize)>,
}

/// The tokens of `source`, each with its line.
pub(super) fn tokenize(source: &str) -> Result<Vec<(Token, usize)>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // Jinja drops one line break at the end.
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, position: 0, line: 1, tokens: Vec::new() };
    lexer.run()?;
    lexer.push(Token::End);
    Ok(lexer.tokens)
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.position..]
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Error::at(self.line, what))
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.source[self.position..self.position + bytes];
        self.line += passed.matches('\n').count();
        self.position += bytes;
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.advance(rest.len() - rest.trim_start_matches(is_space).len());
    }

    fn run(&mut self) -> Result<()> {
        while !self.rest().is_empty() {
            let Some((length, opening)) = next_opening(self.rest()) else {
                self.text(self.rest().len(), self.rest());
                return Ok(());
            };
            let text = &self.rest()[..length];
            let after = &self.rest()[length + 2..];
            let kept = match after.as_bytes().first() {
                Some(b'-') => text.trim_end_matches(is_space),
                Some(b'+') => text,
                _ if opening == "{{" => text,
                _ => without_indent(text, self.at_line_start()),
            };
            self.text(length, kept);
            self.advance(2);
            if after.starts_with(['-', '+']) {
                self.advance(1);
            }
            match opening {
                "{#" => self.comment()?,
                "{{" => {
                    self.push(Token::PrintBegin);
                    self.code("}}")?;
                    self.push(Token::PrintEnd);
                }
                _ if self.raw()? => {}
                _ => {
                    self.push(Token::BlockBegin);
                    self.code("%}")?;
                    self.push(Token::BlockEnd);
                }
            }
        }
        Ok(())
    }

    fn at_line_start(&self) -> bool {
        self.position == 0 || self.source.as_bytes()[self.position - 1] == b'\n'
    }

    fn text(&mut self, length: usize, kept: &str) {
        if !kept.is_empty() {
            self.push(Token::Text(kept.to_owned()));
        }
        self.advance(length);
    }

    fn comment(&mut self) -> Result<()> {
        let Some(end) = self.rest().find("#}") else { return self.error("a comment has no end") };
        let sign = self.rest()[..end].chars().next_back();
        self.advance(end + 2);
        self.trim_after(sign);
        Ok(())
    }

    /// Removes the whitespace after a tag.
    fn trim_after(&mut self, sign: Option<char>) {
        match sign {
            Some('-') => self.skip_space(),
            Some('+') => {}
            _ if self.rest().starts_with('\n') => self.advance(1),
            _ => {}
        }
    }

    /// `{% raw %} .. {% endraw %}`, if it is one.
    fn raw(&mut self) -> Result<bool> {
        let Some(after) = self.rest().trim_start_matches(is_space).strip_prefix("raw") else { return Ok(false) };
        let after = after.trim_start_matches(is_space);
        let (trimmed, body) = match (after.strip_prefix("-%}"), after.strip_prefix("%}")) {
            (Some(body), _) => (true, body),
            (_, Some(body)) => (false, body),
            _ => return Ok(false),
        };
        self.advance(self.rest().len() - body.len());
        if trimmed {
            self.skip_space();
        }
        let mut from = 0;
        while let Some(found) = self.rest()[from..].find("{%") {
            let start = from + found;
            let tag = &self.rest()[start + 2..];
            let inner = tag.strip_prefix(['-', '+']).unwrap_or(tag).trim_start_matches(is_space);
            let close = inner.strip_prefix("endraw").map(|inner| inner.trim_start_matches(is_space));
            let sign = close.and_then(|close| close.chars().next()).filter(|sign| matches!(sign, '-' | '+'));
            let close = close.and_then(|close| close.strip_prefix(['-', '+']).unwrap_or(close).strip_prefix("%}"));
            if let Some(after) = close {
                let text = &self.rest()[..start];
                let kept = match tag.as_bytes().first() {
                    Some(b'-') => text.trim_end_matches(is_space),
                    Some(b'+') => text,
                    _ => without_indent(text, self.at_line_start()),
                };
                self.text(self.rest().len() - after.len(), kept);
                self.trim_after(sign);
                return Ok(true);
            }
            from = start + 2;
        }
        self.error("`raw` has no `endraw`")
    }

    /// Tokens up to `end` outside of brackets.
    fn code(&mut self, end: &str) -> Result<()> {
        let mut open: Vec<char> = Vec::new();
        loop {
            self.skip_space();
            let rest = self.rest();
            let Some(first) = rest.chars().next() else { return self.error(format!("a tag has no `{end}`")) };
            if open.is_empty() {
                let signed = rest.strip_prefix(['-', '+']).filter(|_| end == "%}" || first == '-');
                if let Some(sign) = signed.filter(|rest| rest.starts_with(end)).map(|_| first) {
                    self.advance(3);
                    self.trim_after(Some(sign));
                    return Ok(());
                }
                if rest.starts_with(end) {
                    self.advance(2);
                    if end == "%}" {
                        self.trim_after(None);
                    }
                    return Ok(());
                }
            }
            if matches!(first, '"' | '\'') {
                self.string(first)?;
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first.is_alphanumeric() || first == '_' {
                let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                self.push(Token::Name(rest[..length].to_owned()));
                self.advance(length);
            } else {
                self.operator(&mut open)?;
            }
        }
    }

    fn operator(&mut self, open: &mut Vec<char>) -> Result<()> {
        let rest = self.rest();
        let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) else {
            return self.error(format!("unexpected character {:?}", rest.chars().next().unwrap_or_default()));
        };
        match operator {
            "(" => open.push(')'),
            "[" => open.push(']'),
            "{" => open.push('}'),
            ")" | "]" | "}" if open.pop().is_none_or(|expected| !operator.starts_with(expected)) => {
                return self.error(format!("unexpected `{operator}`"));
            }
            _ => {}
        }
        self.push(Token::Operator(operator));
        self.advance(operator.len());
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        // `x.0.5` is two subscripts.
        let after_dot = matches!(self.tokens.last(), Some((Token::Operator("."), _)));
        let length = number_length(rest, after_dot);
        let text = rest[..length].replace('_', "");
        let radix = match text.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        let token = if radix != 10 {
            i128::from_str_radix(&text[2..], radix).map(Token::Int).ok()
        } else if text.contains(['.', 'e', 'E']) {
            text.parse().map(Token::Float).ok()
        } else {
            text.parse().map(Token::Int).ok()
        };
        let Some(token) = token else {
            return self.error(format!("the number {} cannot be read", &rest[..length.min(40)]));
        };
        self.push(token);
        self.advance(length);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let body = &self.rest()[1..];
        let mut escaped = false;
        let end = body.char_indices().find(|(_, character)| {
            let ends = *character == quote && !escaped;
            escaped = *character == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else { return self.error("a string has no end") };
        let Some(text) = unescaped(&body[..end]) else { return self.error("a string has an invalid escape") };
        self.push(Token::Str(text));
        self.advance(end + 2);
        Ok(())
    }
}

/// Bytes before the next tag, and its opening.
fn next_opening(source: &str) -> Option<(usize, &str)> {
    let mut from = 0;
    while let Some(found) = source[from..].find('{') {
        let start = from + found;
        if let Some(opening) = source.get(start..start + 2).filter(|opening| matches!(*opening, "{{" | "{%" | "{#")) {
            return Some((start, opening));
        }
        from = start + 1;
    }
    None
}

/// `lstrip_blocks`: removes the indentation of a tag alone on its line.
fn without_indent(text: &str, at_line_start: bool) -> &str {
    let line = text.rfind('\n').map_or(0, |line_break| line_break + 1);
    let blank = !text[line..].is_empty() && text[line..].chars().all(is_space);
    if blank && (line > 0 || at_line_start) { &text[..line] } else { text }
}

fn number_length(text: &str, integer: bool) -> usize {
    let digits = |from: usize| {
        let rest = &text[from..];
        rest.find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(rest.len())
    };
    let bytes = text.as_bytes();
    if bytes[0] == b'0' && matches!(bytes.get(1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B')) {
        let rest = &text[2..];
        return 2 + rest.find(|c: char| !(c.is_ascii_hexdigit() || c == '_')).unwrap_or(rest.len());
    }
    let mut length = digits(0);
    if integer {
        return length;
    }
    if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
        length += 1 + digits(length + 1);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        if bytes.get(length + 1 + sign).is_some_and(u8::is_ascii_digit) {
            length += 1 + sign + digits(length + 1 + sign);
        }
    }
    length
}

/// The escapes of Python's strings; unknown ones are copied.
fn unescaped(text: &str) -> Option<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        result.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        let escape = rest.chars().next()?;
        rest = &rest[escape.len_utf8()..];
        let hex = |digits: usize| -> Option<char> {
            let digits = rest.get(..digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            // Half of a surrogate pair is not a `char`.
            Some(char::from_u32(u32::from_str_radix(digits, 16).ok()?).unwrap_or(char::REPLACEMENT_CHARACTER))
        };
        let length = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if length > 0 {
            result.push(hex(length)?);
            rest = &rest[length..];
            continue;
        }
        match escape {
            '\n' => {}
            'n' => result.push('\n'),
            't' => result.push('\t'),
            'r' => result.push('\r'),
            'a' => result.push('\u{7}'),
            'b' => result.push('\u{8}'),
            'f' => result.push('\u{c}'),
            'v' => result.push('\u{b}'),
            '\\' | '\'' | '"' => result.push(escape),
            '0'..='7' => {
                let more = rest.bytes().take(2).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
                let digits = format!("{escape}{}", &rest[..more]);
                result.push(char::from_u32(u32::from_str_radix(&digits, 8).ok()?)?);
                rest = &rest[more..];
            }
            other => result.extend(['\\', other]),
        }
    }
    result.push_str(rest);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        let tokens = tokenize(source).unwrap();
        tokens
            .into_iter()
            .filter_map(|(token, _)| if let Token::Text(text) = token { Some(text) } else { None })
            .collect()
    }

    #[test]
    fn whitespace_around_tags_is_removed_as_in_jinja() {
        assert_eq!(texts("a\n  {% if x %}\n  b\n"), ["a\n", "  b"]);
        assert_eq!(texts("a  {%- if x -%} \n b"), ["a", "b"]);
        assert_eq!(texts("a\n  {%+ if x +%}\nb"), ["a\n  ", "\nb"]);
        assert_eq!(texts("a {{ x }}\nb {{- x -}} \n c"), ["a ", "\nb", "c"]);
        assert_eq!(texts("a\n  {# c #}\nb{#- c -#}\n d"), ["a\n", "b", "d"]);
        assert_eq!(texts("x{% raw %}{{ a }}{% b %}{% endraw %}\ny"), ["x", "{{ a }}{% b %}", "y"]);
    }

    #[test]
    fn escapes_are_those_of_python() {
        assert_eq!(unescaped(r"a\n\x41\u00e9\101\q\'").as_deref(), Some("a\nAéA\\q'"));
        assert_eq!(unescaped(r"\x4"), None);
        assert_eq!(unescaped("\\uéééé"), None);
    }
}
