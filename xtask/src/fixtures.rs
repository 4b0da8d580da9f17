//! `cargo xtask fixtures`: regenerate the fixtures under `tests/fixtures` with transformers.

use clap::Args;
use std::{path::PathBuf, process::Command};

use crate::{Result, workspace_root};

/// The script, below the root of the workspace.
const SCRIPT: &str = "tests/fixtures/generate/generate.py";
/// The pinned versions that it needs.
const REQUIREMENTS: &str = "tests/fixtures/generate/requirements.txt";

#[derive(Args)]
pub struct Arguments {
    /// The Python of an environment with the pinned versions; without it, only say how to make one.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Names of the fixtures to make; all of them, if none is given.
    cases: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Some(python) = &arguments.python else {
        println!("{}", instructions());
        return Ok(());
    };
    let script = workspace_root().join(SCRIPT);
    let status = Command::new(python)
        .arg(&script)
        .args(&arguments.cases)
        .status()
        .map_err(|error| format!("{} cannot be run: {error}", python.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", script.display()).into()) }
}

fn instructions() -> String {
    format!(
        "The fixtures are made by {SCRIPT}. In the root of the workspace:\n\n    \
         python3 -m venv target/fixtures-venv\n    \
         target/fixtures-venv/bin/pip install -r {REQUIREMENTS}\n    \
         cargo xtask fixtures --python target/fixtures-venv/bin/python [CASE ...]\n\n\
         The tests read the files in git; only this task runs Python."
    )
}
