//! Filters of strings.

use super::super::args::{self, Arguments, optional_string};
use super::super::error::{Result, failed};
use super::super::interpreter::Interpreter;
use super::super::meter::{Meter, MeteredString};
use super::super::value::{Dict, Value};
use super::super::{percent, string_methods, text};

pub(super) fn apply(interpreter: &Interpreter, name: &str, value: &Value, arguments: Arguments) -> Result<Value> {
    let meter = &interpreter.meter;
    let text = text::str(meter, value)?;
    // The result is at most a few times as long as the string, or is charged where it is made.
    meter.bytes(text.len().saturating_mul(2))?;
    let made = match name {
        "format" => return formatted(meter, &text, arguments),
        "replace" => {
            let [old, new, count] = arguments.bind(name, ["old", "new", "count"], 2)?;
            let old = text::str(meter, &old.unwrap_or(Value::UNDEFINED))?;
            let new = text::str(meter, &new.unwrap_or(Value::UNDEFINED))?;
            let count = args::optional_int(name, &count)?.and_then(|count| usize::try_from(count).ok());
            string_methods::replaced(meter, &text, &old, &new, count)?
        }
        "trim" => {
            let [characters] = arguments.bind(name, ["chars"], 0)?;
            let characters = optional_string(name, &characters)?;
            string_methods::stripped(meter, &text, characters, true, true)?.to_owned()
        }
        "center" => {
            let [width] = arguments.bind(name, ["width"], 0)?;
            string_methods::padded(meter, &text, args::size(name, &width, 80)?, " ", name)?
        }
        "indent" => {
            let [width, first, blank] = arguments.bind(name, ["width", "first", "blank"], 0)?;
            let mut indent = MeteredString::new(meter);
            match &width {
                Some(Value::Str(text)) => indent.push(text)?,
                width => indent.repeat(" ", args::size(name, width, 4)?)?,
            }
            indented(meter, &text, &indent.finish(), args::flag(&first), args::flag(&blank))?
        }
        "truncate" => {
            let [length, cut_words, end, leeway] = arguments.bind(name, ["length", "killwords", "end", "leeway"], 0)?;
            let length = args::size(name, &length, 255)?;
            let leeway = args::size(name, &leeway, 5)?;
            truncated(&text, length, args::flag(&cut_words), optional_string(name, &end)?.unwrap_or("..."), leeway)?
        }
        _ => {
            let [] = arguments.bind(name, [], 0)?;
            match name {
                "upper" => text.to_uppercase(),
                "lower" => text.to_lowercase(),
                "capitalize" => string_methods::capitalized(&text),
                "title" => titled(&text),
                "wordcount" => {
                    let words = text.split(|character: char| !(character.is_alphanumeric() || character == '_'));
                    return Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i128));
                }
                "urlencode" => url_quoted(meter, &text)?,
                _ => return text::escaped(meter, &text).map(|text| Value::Safe(text.into())),
            }
        }
    };
    Ok(Value::str(made))
}

/// `text % arguments`.
fn formatted(meter: &Meter, text: &str, arguments: Arguments) -> Result<Value> {
    if !arguments.named.is_empty() && !arguments.positional.is_empty() {
        return failed("`format` takes positional or keyword arguments, not both");
    }
    let values = if arguments.named.is_empty() {
        Value::tuple(meter, arguments.positional)?
    } else {
        let mut named = Dict::default();
        for (name, value) in arguments.named {
            named.insert(meter, Value::Str(name), value)?;
        }
        Value::dict(named)
    };
    percent::format(meter, text, &values).map(Value::str)
}

fn indented(meter: &Meter, text: &str, indent: &str, first: bool, blank: bool) -> Result<String> {
    let mut result = MeteredString::new(meter);
    // Jinja ends the text with a line break before it splits it, so that an empty text is a line too.
    let text = format!("{text}\n");
    for (index, line) in string_methods::lines(&text, false).into_iter().enumerate() {
        let wanted = if index == 0 { first } else { blank || !line.is_empty() };
        result.push(if index > 0 { "\n" } else { "" })?;
        result.push(if wanted { indent } else { "" })?;
        result.push(line)?;
    }
    Ok(result.finish())
}

fn truncated(text: &str, length: usize, cut_words: bool, end: &str, leeway: usize) -> Result<String> {
    let Some(kept) = length.checked_sub(end.chars().count()) else {
        return failed("`truncate` needs a length of at least that of `end`");
    };
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let kept = text.char_indices().nth(kept).map_or(text, |(byte, _)| &text[..byte]);
    let kept = if cut_words { kept } else { kept.rsplit_once(' ').map_or(kept, |(before, _)| before) };
    Ok(format!("{kept}{end}"))
}

/// A capital letter after blanks, hyphens and opening brackets.
fn titled(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut first = true;
    for character in text.chars() {
        if first {
            titled.extend(character.to_uppercase());
        } else {
            titled.extend(character.to_lowercase());
        }
        first = text::is_space(character) || matches!(character, '-' | '(' | '{' | '[' | '<');
    }
    titled
}

fn url_quoted(meter: &Meter, text: &str) -> Result<String> {
    let mut quoted = MeteredString::new(meter);
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    for run in text.as_bytes().chunk_by(|a, b| kept(*a) == kept(*b)) {
        match std::str::from_utf8(run) {
            Ok(run) if run.bytes().all(kept) => quoted.push(run)?,
            _ => run.iter().try_for_each(|byte| quoted.push(&format!("%{byte:02X}")))?,
        }
    }
    Ok(quoted.finish())
}
