//! Reports errors: one paragraph and a hint, or one JSON object.

use crate::{error::CliError, escape, hints, output, wrap};
use clap::error::ErrorKind;
use serde_json::json;
use std::error::Error;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

const ERROR: u8 = 1;
const USAGE: u8 = 2;

/// Writes `error` to standard error and returns the exit code for it.
pub fn report(error: &CliError, json: bool) -> ExitCode {
    let message = error.to_string();
    let causes = causes(error, &message);
    let hint = hints::hint(error);
    if json {
        output::say_json(&json!({ "error": message, "causes": causes, "hint": hint }));
    } else {
        let joined = std::iter::once(message).chain(causes).collect::<Vec<_>>().join(": ");
        say("error: ", &joined);
        if let Some(hint) = hint {
            say("hint: ", &hint);
        }
    }
    ExitCode::from(ERROR)
}

/// Writes clap's messages; help and version go to standard output.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // These texts are part of this program. A closed pipe does not change the exit code.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // Without colours: the text repeats the arguments.
    let text = error.render().to_string();
    if std::env::args_os().any(|argument| argument == "--json") {
        let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.trim().strip_prefix("error: ").unwrap_or(message.trim());
        let hint = rest.lines().find(|line| line.trim_start().starts_with("Usage:")).map(str::trim);
        output::say_json(&json!({ "error": message, "causes": [], "hint": hint }));
    } else if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Help, which repeats no argument.
        output::say(text.trim_end());
    } else {
        output::say(&without_false_lines(text.trim_end()));
    }
    ExitCode::from(USAGE)
}

/// Indents the lines that are not clap's: arguments may have line breaks, and the rest must not look like a line of this program.
fn without_false_lines(text: &str) -> String {
    let is_of_clap = |line: &str| {
        line.is_empty() || [" ", "Usage:", "For more information"].iter().any(|start| line.starts_with(start))
    };
    let mut shown = String::new();
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            shown.push_str(if is_of_clap(line) { "\n" } else { "\n  " });
        }
        shown.push_str(line);
    }
    shown
}

/// Writes a warning to standard error.
pub fn warn(warning: &str) {
    say("warning: ", warning);
}

/// Writes the message of a panic to standard error like everything else.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let backtrace = std::backtrace::Backtrace::capture();
        output::say(&format!("error: this is a bug, please report it: {panic}"));
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            output::say(&backtrace.to_string());
        }
    }));
}

/// A paragraph whose later lines are indented, to distinguish quoted text.
fn say(label: &str, text: &str) {
    output::say(&wrap::for_stderr(label, &escape::text(text)));
}

/// The messages of the causes, without those that an earlier message contains.
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
    fn arguments_cannot_fake_lines() {
        let text = "error: unrecognized subcommand 'a\nhint: b'\n\n  tip: c\n\nUsage: d\n\nFor more information, e";
        let shown = without_false_lines(text);
        assert_eq!(shown, text.replace("\nhint: b", "\n  hint: b"));
    }

    #[test]
    fn no_cause_is_repeated() {
        let error = layers(&["cannot open a.json: no such file", "no such file", "disk offline"]);
        assert_eq!(causes(&error, &error.to_string()), ["disk offline"]);
        assert!(causes(&layers(&["alone"]), "alone").is_empty());
    }
}
