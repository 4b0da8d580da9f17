//! automodel beside its alternatives, on the same files, in one run: `cargo run --release -p automodel-peers-bench -- --help`.
//!
//! Every contender is a process of its own. Rounds are interleaved (the first of all, then the second of all, ...), so that a
//! machine that slows down slows all of them; medians are reported.

mod bandwidth;
mod build;
mod checkpoint;
mod contenders;
mod growth;
mod machine;
mod measurement;
mod mistral;
mod peers;
mod process;
mod python;
mod report;
mod rounds;
mod section;
mod sizes;
mod table;

use clap::Parser;
use machine::Machine;
use report::Report;
use rounds::Outcome;
use std::{fs, path::PathBuf, process::ExitCode, time::Duration};
use xtask::{Result, workspace_root};

/// The document whose marked sections `--write` replaces, below the root of the workspace.
const DOCUMENT: &str = "docs/performance.md";

#[derive(Parser)]
#[command(
    about = "Measure ours beside transformers, bitsandbytes, llama.cpp, candle and mistral.rs on the same files",
    after_help = "\
Contenders: automodel-dense, automodel-f32, automodel-nf4, automodel-nf4-fast, transformers-bf16,
transformers-f32, transformers-nf4, llama-bf16, llama-q4_0, candle-bf16, candle-f32, mistralrs-bf16, mistralrs-q4_0.
The first word alone names all of its kind. One that cannot run is skipped, with the reason.

Example: cargo run --release -p automodel-peers-bench -- --python venv/bin/python --skip mistralrs --write"
)]
struct Arguments {
    /// A checkpoint in Hugging Face layout, instead of the random one of 1.1 billion parameters.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where checkpoints, GGUF files, environments and logs go; target/bench-peers unless given.
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Times that every contender runs; medians are reported.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: u32,
    /// Tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..))]
    new_tokens: u32,
    /// Generations in each process before the one that is measured.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u32,
    /// Threads of every contender, and of the bandwidth measurement; all cores unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Run only these contenders.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = contenders::parse_name)]
    only: Vec<String>,
    /// Leave these contenders out.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = contenders::parse_name)]
    skip: Vec<String>,
    /// Python for the peers in Python; may be repeated: each takes the first that has its packages.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: Vec<PathBuf>,
    /// Install the pinned Python packages into an environment below --work, and use that first.
    #[arg(long)]
    install: bool,
    /// Use programs that were built before, instead of building ours and candle's.
    #[arg(long)]
    no_build: bool,
    /// Most seconds for one process.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
    /// Replace the marked section of docs/performance.md.
    #[arg(long)]
    write: bool,
    /// Write every round, and the medians, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure how ours grows instead: decoding by context, and opening by number of tensors.
    #[arg(long)]
    growth: bool,
    /// Contexts of --growth; reading a prompt of 32768 tokens takes long.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [128, 1024, 8192, 32768],
          value_parser = clap::value_parser!(u32).range(1..))]
    contexts: Vec<u32>,
    /// Numbers of tensors of --growth, approximately.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [10, 100, 1000, 10_000, 20_000],
          value_parser = clap::value_parser!(u32).range(1..=36_000))]
    tensors: Vec<u32>,
}

/// Settings that all measurements share.
struct Setup {
    pub work: PathBuf,
    pub threads: u32,
    pub rounds: u32,
    pub build: bool,
    pub timeout: Duration,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let setup = Setup::new(arguments)?;
    let machine = Machine::read(setup.threads);
    eprintln!("{machine}");
    let (name, text, json) = if arguments.growth {
        let growth = growth::measure(arguments, &setup)?;
        ("growth", growth.markdown(&machine), growth.json(&machine))
    } else {
        let report = compare(arguments, &setup, machine)?;
        ("peers", report.markdown(), report.json())
    };
    println!("{text}");
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(&json)? + "\n")
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    if arguments.write { section::write(&workspace_root().join(DOCUMENT), name, &text) } else { Ok(()) }
}

fn compare(arguments: &Arguments, setup: &Setup, machine: Machine) -> Result<Report> {
    let model = checkpoint::ensure(arguments.model.as_deref(), &setup.work)?;
    let weights = sizes::read(&model)?;
    let chosen = contenders::choose(&arguments.only, &arguments.skip);
    let pythons = python::interpreters(arguments, &chosen, setup)?;
    let (ready, skipped) = peers::prepare(&chosen, &model, &pythons, setup);
    let workload = rounds::Workload::new(arguments);
    let Outcome { measured, failed, bandwidth } = rounds::run(ready, &workload, setup)?;
    Ok(Report { machine, workload, weights, bandwidth, measured, skipped: [skipped, failed].concat() })
}

impl Setup {
    fn new(arguments: &Arguments) -> Result<Self> {
        let root = workspace_root();
        let work = arguments.work.clone().unwrap_or_else(|| root.join("target/bench-peers"));
        fs::create_dir_all(work.join("logs")).map_err(|error| format!("{}: {error}", work.display()))?;
        let cores = std::thread::available_parallelism()?.get();
        Ok(Self {
            work: work.canonicalize()?,
            threads: arguments.threads.unwrap_or(u32::try_from(cores)?),
            rounds: arguments.rounds,
            build: !arguments.no_build,
            timeout: Duration::from_secs(arguments.timeout),
        })
    }
}
