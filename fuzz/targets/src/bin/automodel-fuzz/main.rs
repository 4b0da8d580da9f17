//! Runs the fuzz targets by plain mutation: `cargo xtask fuzz`.
//!
//! The targets run in a child process, so that an abort (memory, the stack, an endless loop) is a finding like a panic.

mod child;
mod findings;
mod supervisor;

use clap::Parser;
use std::{path::PathBuf, process::ExitCode};

#[global_allocator]
static ALLOCATOR: automodel_fuzz::Counting = automodel_fuzz::Counting;

#[derive(Clone, Debug, Parser)]
#[command(name = "automodel-fuzz", about = "Lets hostile input meet the code that reads it")]
struct Arguments {
    /// Seconds for all targets together.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Chooses the mutations: the same seed makes the same inputs in the same order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One target instead of all.
    #[arg(long)]
    target: Option<String>,
    /// One input instead of many.
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// The folder of the inputs, with a folder for each target.
    #[arg(long, default_value = "fuzz/corpus")]
    corpus: PathBuf,
    /// The folder for findings.
    #[arg(long, default_value = "fuzz/artifacts")]
    artifacts: PathBuf,
    /// Runs inputs in this process, from this number on.
    #[arg(long, hide = true, requires = "target")]
    child: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.child {
        Some(first) => child::run(&arguments, first),
        None => supervisor::run(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("automodel-fuzz: {error}");
            ExitCode::from(2)
        }
    }
}
