//! Environments of Python for what is measured and checked against it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Makes an environment, or takes the one that is there: its Python.
pub fn create(python: &Path, environment: &Path) -> Result<PathBuf, String> {
    status(Command::new(python).args(["-m", "venv"]).arg(environment))?;
    Ok(environment.join("bin/python"))
}

/// Installs into the environment of `python` what pip makes of `packages`: names with versions, or `-r` and a file.
pub fn install(python: &Path, packages: &[&str]) -> Result<(), String> {
    status(Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(packages))
}

fn status(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}
