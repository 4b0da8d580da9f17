//! The examples of the README do what it shows.

use crate::run::in_directory;

const README: &str = include_str!("../../README.md");

/// A command of the README and the first line that it prints.
struct Example<'r> {
    arguments: Vec<&'r str>,
    output: &'r str,
}

/// The commands of all console blocks, in their order.
fn examples() -> Vec<Example<'static>> {
    let blocks = README.split("```console\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
    let commands = blocks.flat_map(|(block, _)| block.split("$ automodel ").skip(1));
    let example = |command: &'static str| {
        let (line, output) = command.split_once('\n').expect("a command and its output");
        Example { arguments: words(line), output: output.lines().next().expect("a line of output") }
    };
    commands.map(example).collect()
}

/// Splits a command line at spaces; double quotes keep words together.
fn words(line: &str) -> Vec<&str> {
    let quoted = line.split('"').enumerate();
    quoted.flat_map(|(part, text)| if part % 2 == 1 { vec![text] } else { text.split_whitespace().collect() }).collect()
}

#[test]
fn every_example_runs_as_shown() {
    let temporary = tempfile::tempdir().unwrap();
    // Messages name directories without links.
    let directory = temporary.path().canonicalize().unwrap();
    let examples = examples();
    assert!(examples.len() >= 10, "only {} examples were found", examples.len());
    for Example { arguments, output } in examples {
        let ran = in_directory(&directory, &arguments, "");
        let fails = output.starts_with("error: ") || output.starts_with("{\"error\"");
        assert_eq!(ran.code, i32::from(fails), "{arguments:?}: {ran:?}");
        // The rest of a line may hold paths and the last digits of logits.
        let first_words = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        let said = if fails { &ran.stderr } else { &ran.stdout };
        let shown = said.lines().next().unwrap_or_default();
        assert_eq!(first_words(shown), first_words(&output.replace("...", &directory.display().to_string())));
    }
}
