//! The methods of Python's strings.

use super::args::{self, Arguments, optional_int, optional_string};
use super::error::{Result, failed};
use super::fields;
use super::interpreter::Interpreter;
use super::meter::{Meter, MeteredString};
use super::text::{self, is_space};
use super::value::{SeqKind, Value};
use std::sync::Arc;

pub(super) const NAMES: [&str; 46] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "encode",
    "translate",
];

/// `text.name(arguments)`.
pub(super) fn call(interpreter: &mut Interpreter, text: &Arc<str>, name: &str, arguments: Arguments) -> Result<Value> {
    let meter = interpreter.meter.clone();
    // The result is at most a few times as long as the string, or is charged where it is made.
    meter.bytes(text.len().saturating_mul(2))?;
    let made = |text: String| Ok(Value::str(text));
    match name {
        "format" => return made(fields::format(interpreter, text, &arguments)?),
        "format_map" => {
            let [mapping] = arguments.bind(name, ["mapping"], 1)?;
            let Some(Value::Dict(dict)) = mapping else { return failed("`format_map` needs a mapping") };
            let mut named = Vec::new();
            for (key, value) in dict.entries() {
                meter.slots(2)?;
                named.push((text::str(&meter, key)?, value.clone()));
            }
            return made(fields::format(interpreter, text, &Arguments { positional: Vec::new(), named })?);
        }
        "upper" | "lower" | "casefold" | "capitalize" | "title" | "swapcase" => {
            let [] = arguments.bind(name, [], 0)?;
            return made(match name {
                "upper" => text.to_uppercase(),
                "lower" | "casefold" => text.to_lowercase(),
                "capitalize" => capitalized(text),
                "title" => titled(text),
                _ => text.chars().flat_map(swapped).collect(),
            });
        }
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = arguments.bind(name, ["chars"], 0)?;
            let characters = optional_string(name, &characters)?;
            return Value::new_str(&meter, stripped(&meter, text, characters, name != "rstrip", name != "lstrip")?);
        }
        "split" | "rsplit" => {
            let [separator, limit] = arguments.bind(name, ["sep", "maxsplit"], 0)?;
            let limit = optional_int(name, &limit)?.and_then(|limit| usize::try_from(limit).ok());
            let parts = split(&meter, text, optional_string(name, &separator)?, limit, name == "rsplit")?;
            return texts(&meter, &parts);
        }
        "splitlines" => {
            let [keep] = arguments.bind(name, ["keepends"], 0)?;
            return texts(&meter, &lines(text, args::flag(&keep)));
        }
        "join" => {
            let [items] = arguments.bind(name, ["iterable"], 1)?;
            return join(&meter, text, &items.unwrap_or(Value::UNDEFINED));
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = arguments.bind(name, ["width", "fillchar"], 1)?;
            let fill = optional_string(name, &fill)?.unwrap_or(" ");
            return made(padded(&meter, text, args::size(name, &width, 0)?, fill, name)?);
        }
        "zfill" => {
            let [width] = arguments.bind(name, ["width"], 1)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let width = args::size(name, &width, 0)?.saturating_sub(sign.len());
            return made(format!("{sign}{}", padded(&meter, digits, width, "0", "rjust")?));
        }
        "expandtabs" => {
            let [size] = arguments.bind(name, ["tabsize"], 0)?;
            return made(expanded(&meter, text, args::size(name, &size, 8)?)?);
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.bind(name, ["sep"], 1)?;
            let separator = separator.unwrap_or(Value::None);
            let separator = separating(name, args::string(name, &separator)?)?;
            let parts = match name {
                "partition" => text.split_once(separator).map_or([text, "", ""], |(a, b)| [a, separator, b]),
                _ => text.rsplit_once(separator).map_or(["", "", text], |(a, b)| [a, separator, b]),
            };
            let parts = parts.into_iter().map(|part| Value::new_str(&meter, part)).collect::<Result<_>>()?;
            return Value::tuple(&meter, parts);
        }
        "removeprefix" | "removesuffix" => {
            let [part] = arguments.bind(name, ["part"], 1)?;
            let part = part.unwrap_or(Value::None);
            let part = args::string(name, &part)?;
            let rest = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            return Value::new_str(&meter, rest.unwrap_or(text));
        }
        "replace" => {
            let [old, new, count] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
            let count = optional_int(name, &count)?.and_then(|count| usize::try_from(count).ok());
            return made(replaced(&meter, text, args::string(name, &old)?, args::string(name, &new)?, count)?);
        }
        "count" | "find" | "index" | "rfind" | "rindex" | "startswith" | "endswith" => {
            return search(&meter, text, name, arguments);
        }
        _ => {}
    }
    let [] = arguments.bind(name, [], 0)?;
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    Ok(Value::Bool(match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isdecimal" | "isdigit" | "isnumeric" => all(char::is_numeric),
        "isidentifier" => {
            !text.starts_with(char::is_numeric) && all(|character| character.is_alphanumeric() || character == '_')
        }
        "islower" => text::is_lower(text),
        "isprintable" => text.chars().all(text::is_printable),
        "isspace" => all(is_space),
        "istitle" => text.chars().any(|character| character.is_uppercase()) && titled(text) == **text,
        "isupper" => text::is_upper(text),
        _ => return failed(format!("the string method `{name}` is not supported in a template")),
    }))
}

fn texts(meter: &Meter, parts: &[&str]) -> Result<Value> {
    meter.slots(parts.len())?;
    let parts = parts.iter().map(|part| Value::new_str(meter, part)).collect::<Result<_>>()?;
    Value::list(meter, parts)
}

pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + &characters.as_str().to_lowercase()
}

fn titled(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            titled.extend(character.to_lowercase());
        } else {
            titled.extend(character.to_uppercase());
        }
        inside = character.is_lowercase() || character.is_uppercase();
    }
    titled
}

fn swapped(character: char) -> Vec<char> {
    if character.is_uppercase() { character.to_lowercase().collect() } else { character.to_uppercase().collect() }
}

/// `text` without whitespace, or without `characters`, at its ends.
pub(super) fn stripped<'t>(
    meter: &Meter,
    text: &'t str,
    characters: Option<&str>,
    start: bool,
    end: bool,
) -> Result<&'t str> {
    let characters = characters.map(|characters| characters.chars().collect::<Vec<char>>());
    if let Some(characters) = &characters {
        meter.bytes(text.len().saturating_mul(characters.len()) / 8)?;
    }
    let goes = |character: char| match &characters {
        Some(characters) => characters.contains(&character),
        None => is_space(character),
    };
    let text = if start { text.trim_start_matches(goes) } else { text };
    Ok(if end { text.trim_end_matches(goes) } else { text })
}

fn separating<'s>(function: &str, separator: &'s str) -> Result<&'s str> {
    if separator.is_empty() { failed(format!("`{function}` needs a non-empty separator")) } else { Ok(separator) }
}

fn split<'t>(
    meter: &Meter,
    text: &'t str,
    separator: Option<&str>,
    limit: Option<usize>,
    from_end: bool,
) -> Result<Vec<&'t str>> {
    let parts = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut found: Vec<&str> = Vec::new();
    if let Some(separator) = separator {
        let separator = separating("split", separator)?;
        let mut push = |part| -> Result<()> {
            meter.slots(1)?;
            found.push(part);
            Ok(())
        };
        if from_end {
            text.rsplitn(parts, separator).try_for_each(&mut push)?;
        } else {
            text.splitn(parts, separator).try_for_each(&mut push)?;
        }
    } else {
        // Splits at runs of whitespace, and drops it at the ends.
        let mut rest = text;
        loop {
            rest = if from_end { rest.trim_end_matches(is_space) } else { rest.trim_start_matches(is_space) };
            if rest.is_empty() {
                break;
            }
            meter.slots(1)?;
            if found.len() + 1 == parts {
                found.push(rest);
                break;
            }
            let at = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
            let Some(at) = at else {
                found.push(rest);
                break;
            };
            let blank = rest[at..].chars().next().map_or(1, char::len_utf8);
            let (part, after) = if from_end { (&rest[at + blank..], &rest[..at]) } else { (&rest[..at], &rest[at..]) };
            found.push(part);
            rest = after;
        }
    }
    if from_end {
        found.reverse();
    }
    Ok(found)
}

/// `str.splitlines`.
pub(super) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let breaks = |character: char| {
        matches!(character, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(end) = rest.find(breaks) else {
            lines.push(rest);
            break;
        };
        let length =
            if rest[end..].starts_with("\r\n") { 2 } else { rest[end..].chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if keep { end + length } else { end }]);
        rest = &rest[end + length..];
    }
    lines
}

fn join(meter: &Meter, separator: &str, items: &Value) -> Result<Value> {
    let mut joined = MeteredString::new(meter);
    for (index, item) in items.iterate(meter)?.iter().enumerate() {
        if index > 0 {
            joined.push(separator)?;
        }
        joined.push(args::string("join", item)?)?;
    }
    Ok(Value::str(joined.finish()))
}

pub(super) fn padded(meter: &Meter, text: &str, width: usize, fill: &str, side: &str) -> Result<String> {
    if fill.chars().count() != 1 {
        return failed(format!("`{side}` needs one fill character"));
    }
    let length = text.chars().count();
    let missing = width.saturating_sub(length);
    let (before, after) = match side {
        "ljust" => (0, missing),
        "rjust" => (missing, 0),
        // Python puts the odd space on the left only if the width is odd.
        _ => {
            let before = missing / 2 + (missing & width & 1);
            (before, missing - before)
        }
    };
    let mut padded = MeteredString::new(meter);
    padded.repeat(fill, before)?;
    padded.push(text)?;
    padded.repeat(fill, after)?;
    Ok(padded.finish())
}

fn expanded(meter: &Meter, text: &str, size: usize) -> Result<String> {
    let mut expanded = MeteredString::new(meter);
    let mut column = 0usize;
    for character in text.chars() {
        match character {
            '\t' if size > 0 => {
                let blanks = size - column % size;
                expanded.repeat(" ", blanks)?;
                column += blanks;
            }
            '\t' => {}
            _ => {
                expanded.push_char(character)?;
                column = if matches!(character, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(expanded.finish())
}

pub(super) fn replaced(meter: &Meter, text: &str, old: &str, new: &str, count: Option<usize>) -> Result<String> {
    let matches = text.matches(old).count().min(count.unwrap_or(usize::MAX));
    meter.bytes(matches.saturating_mul(new.len()))?;
    Ok(match count {
        Some(count) => text.replacen(old, new, count),
        None => text.replace(old, new),
    })
}

/// The methods that search for a substring between two optional bounds.
fn search(meter: &Meter, text: &str, name: &str, arguments: Arguments) -> Result<Value> {
    let [part, start, end] = arguments.bind(name, ["part", "start", "end"], 1)?;
    let part = part.unwrap_or(Value::None);
    let length = text.chars().count() as i128;
    let place = |bound: &Option<Value>, default: i128| -> Result<i128> {
        let bound = optional_int(name, bound)?.unwrap_or(default);
        Ok(if bound < 0 { bound.saturating_add(length).max(0) } else { bound })
    };
    let (start, end) = (place(&start, 0)?, place(&end, length)?.min(length));
    let byte = |place: i128| {
        text.char_indices().nth(usize::try_from(place).unwrap_or(usize::MAX)).map_or(text.len(), |(byte, _)| byte)
    };
    let window = if start <= end { Some(&text[byte(start)..byte(end)]) } else { None };
    if matches!(name, "startswith" | "endswith") {
        let fits = |part: &str| match window {
            Some(window) => {
                if name == "startswith" {
                    window.starts_with(part)
                } else {
                    window.ends_with(part)
                }
            }
            None => false,
        };
        return match &part {
            Value::Seq(seq) if matches!(seq.kind, SeqKind::Tuple) => {
                for part in &seq.items {
                    meter.steps(1)?;
                    if fits(args::string(name, part)?) {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            part => Ok(Value::Bool(fits(args::string(name, part)?))),
        };
    }
    let part = args::string(name, &part)?;
    if name == "count" {
        return Ok(Value::Int(window.map_or(0, |window| window.matches(part).count() as i128)));
    }
    let found = window.and_then(|window| {
        let byte = if name.starts_with('r') { window.rfind(part) } else { window.find(part) };
        byte.map(|byte| start + window[..byte].chars().count() as i128)
    });
    match found {
        Some(position) => Ok(Value::Int(position)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => failed(format!("`{name}`: substring not found")),
    }
}
