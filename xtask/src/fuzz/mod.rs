//! `cargo xtask fuzz`: the targets of `fuzz/targets` by plain mutation, on a stable compiler.
//!
//! They are a package of their own, which this builds and runs, so that the other tasks need not be built with Burn. It is built as
//! the tests of the whole workspace are: built by itself, its dependencies have fewer features, and all of Burn is compiled anew.

use std::{env, path::PathBuf, process::Command};

use crate::{Result, workspace_root};

#[derive(clap::Args)]
pub struct Arguments {
    /// Seconds for all targets together, or for the one.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Chooses the mutations: the same seed makes the same inputs in the same order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One target instead of all: a folder of `fuzz/corpus`.
    #[arg(long)]
    target: Option<String>,
    /// One input of the target instead of many.
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
}

impl Arguments {
    /// A minute with a fixed seed, so that a failure is that of the change.
    pub fn for_ci() -> Self {
        Self { seconds: 60, seed: 1, target: None, input: None }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = workspace_root();
    let build = ["test", "--quiet", "--workspace", "--test", "corpus", "--no-run"];
    if !Command::new(cargo).args(build).current_dir(&root).status()?.success() {
        return Err("the targets do not compile".into());
    }
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(&root).no_deps().exec()?;
    let program = format!("debug/automodel-fuzz{}", env::consts::EXE_SUFFIX);
    let mut command = Command::new(metadata.target_directory.as_std_path().join(program));
    command.arg("--corpus").arg(root.join("fuzz/corpus")).arg("--artifacts").arg(root.join("fuzz/artifacts"));
    command.args(["--seconds", &arguments.seconds.to_string(), "--seed", &arguments.seed.to_string()]);
    if let Some(target) = &arguments.target {
        command.args(["--target", target]);
    }
    if let Some(input) = &arguments.input {
        command.arg("--input").arg(input);
    }
    if command.status()?.success() { Ok(()) } else { Err("fuzzing found the faults above".into()) }
}
