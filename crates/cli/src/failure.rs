//! How errors are shown: one paragraph and a hint, or one JSON object.

use crate::{error::CliError, hints, wrap};
use serde_json::json;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

const ERROR: u8 = 1;
const USAGE: u8 = 2;

/// Writes `error` to standard error and returns the exit code for it.
pub fn report(error: &CliError, json: bool) -> ExitCode {
    let message = error.to_string();
    let causes = causes(error, &message);
    let hint = hints::hint(error);
    if json {
        say(&json!({ "error": message, "causes": causes, "hint": hint }).to_string());
    } else {
        let joined = std::iter::once(message).chain(causes).collect::<Vec<_>>().join(": ");
        say(&wrap::for_stderr("error: ", &joined));
        if let Some(hint) = hint {
            say(&wrap::for_stderr("hint: ", &hint));
        }
    }
    ExitCode::from(ERROR)
}

/// Writes what clap says, help and version to standard output.
pub fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.trim().strip_prefix("error: ").unwrap_or(message.trim());
        let hint = rest.lines().find(|line| line.trim_start().starts_with("Usage:")).map(str::trim);
        say(&json!({ "error": message, "causes": [], "hint": hint }).to_string());
    } else {
        // A reader that went away does not change what the arguments were.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Writes a warning to standard error.
pub fn warn(warning: &str) {
    say(&wrap::for_stderr("warning: ", warning));
}

/// The texts of the causes, without those that an earlier text already holds.
fn causes(error: &dyn Error, message: &str) -> Vec<String> {
    let mut said = vec![message.to_owned()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !text.is_empty() && !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    said.split_off(1)
}

/// A line on standard error, which may be closed.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(layers(rest))) }
    }

    #[test]
    fn no_cause_is_told_twice() {
        let error = layers(&["cannot open a.json: no such file", "no such file", "disk offline"]);
        assert_eq!(causes(&error, &error.to_string()), ["disk offline"]);
        assert!(causes(&layers(&["alone"]), "alone").is_empty());
    }
}
