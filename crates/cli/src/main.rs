//! The `automodel` command.
//!
//! `cli` describes the arguments, `commands` has one file for each command. Results go to standard output; progress, timings,
//! warnings and errors go to standard error. Exit codes: 0 for success, 1 for an error, 2 for wrong usage.

mod cli;
mod commands;
mod download_bars;
mod error;
mod escape;
mod failure;
mod forecast_table;
mod hints;
mod hub_args;
mod model_args;
mod output;
mod progress;
mod prompts;
mod quantize_args;
mod sampling_args;
mod units;
mod values;
mod weight_bytes;
mod wrap;

use clap::Parser;
use cli::{Cli, Command};
use error::CliError;
use std::process::ExitCode;

fn main() -> ExitCode {
    failure::report_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    log_to_stderr(cli.verbose);
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, cli.json),
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    match &cli.command {
        Command::Generate(args) => commands::generate::run(args, cli.json),
        Command::Chat(args) => commands::chat::run(args, cli.json),
        Command::Inspect(args) => commands::inspect::run(args, cli.json),
        Command::Plan(args) => commands::plan::run(args, cli.json),
        Command::Architectures(args) => commands::architectures::run(args, cli.json),
        Command::Bench(args) => commands::bench::run(args, cli.json),
        Command::Save(args) => commands::save::run(args, cli.json),
        Command::Pull(args) => commands::pull::run(args, cli.json),
        Command::Cache(args) => commands::cache::run(args, cli.json),
        Command::Quantize(args) => commands::quantize::run(args, cli.json),
        Command::Logits(args) => commands::logits::run(args, cli.json),
        Command::Doctor(args) => commands::doctor::run(args, cli.json),
    }
}

/// Writes the crates' traces to standard error: none by default, `-v` timings, `-vv` details, `-vvv` everything.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "automodel=info",
        2 => "automodel=debug",
        _ => "automodel=trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(output::Traces)
        // Colours are escape sequences, which the output escapes.
        .with_ansi(false)
        .with_target(verbose > 1)
        .log_internal_errors(false)
        .without_time()
        .init();
}
