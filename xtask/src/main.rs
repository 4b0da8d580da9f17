//! Development tasks of the workspace: `cargo xtask --help`.

mod arrows;
mod ci;
mod fixtures;
mod fuzz;
mod gpu;
mod hub_check;
mod new_family;
mod nvrtc_check;
mod supported_models;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{Result, make_checkpoint, python_environment, workspace_root};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of the workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check format, lints, documentation and the structure of the workspace; stop at the first failure.
    Ci,
    /// Check the structure of the workspace: imports between crates, and the files every crate must have.
    Tidy,
    /// Write a random checkpoint of any size in Hugging Face layout.
    ///
    /// For large ones, build with optimisation: `cargo run --release -p xtask -- make-checkpoint ...`.
    MakeCheckpoint(make_checkpoint::Arguments),
    /// Pack the tests and benchmarks for a machine with a GPU and without Rust.
    Gpu(gpu::Arguments),
    /// Check that our cache and that of huggingface_hub are the same; prints SKIPPED without Python.
    HubCheck(hub_check::Arguments),
    /// Check that CUDA's compiler compiles every kernel, on a machine that needs no GPU; prints SKIPPED without the compiler.
    NvrtcCheck(nvrtc_check::Arguments),
    /// Fuzz everything that reads files, JSON, templates and answers of servers.
    Fuzz(fuzz::Arguments),
    /// Make the test fixtures again with transformers, or say how.
    Fixtures(fixtures::Arguments),
    /// Begin a family as a copy of another: its file, its place in the lists, a row for its fixture.
    NewFamily(new_family::Arguments),
    /// Write docs/supported-models.md, and the count in the README, from the results of the tests.
    SupportedModels,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::MakeCheckpoint(arguments) => make_checkpoint::run(&arguments),
        Task::Gpu(arguments) => gpu::run(&arguments),
        Task::HubCheck(arguments) => hub_check::run(&arguments),
        Task::NvrtcCheck(arguments) => nvrtc_check::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Fixtures(arguments) => fixtures::run(&arguments),
        Task::NewFamily(arguments) => new_family::run(&arguments),
        Task::SupportedModels => supported_models::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
