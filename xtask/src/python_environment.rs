//! Virtual environments of Python, for measurements and checks against its packages.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Creates a virtual environment, or reuses the existing one. Returns its interpreter.
pub fn create(python: &Path, environment: &Path) -> Result<PathBuf, String> {
    status(Command::new(python).args(["-m", "venv"]).arg(environment))?;
    Ok(environment.join("bin/python"))
}

/// Installs `packages` with pip into the environment of `python`: names with versions, or `-r` and a file.
pub fn install(python: &Path, packages: &[&str]) -> Result<(), String> {
    status(Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(packages))
}

fn status(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}
