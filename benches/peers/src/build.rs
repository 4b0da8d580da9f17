//! Builds the programs that the harness runs.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::MetadataCommand;

use super::Setup;
use xtask::workspace_root;

/// Our command, built with optimisation as its users have it.
pub fn automodel(setup: &Setup) -> Result<PathBuf, String> {
    let metadata = MetadataCommand::new().current_dir(workspace_root()).no_deps().exec();
    let metadata = metadata.map_err(|error| format!("cargo metadata failed: {error}"))?;
    if setup.build {
        cargo(Command::new(cargo_path()).args(["build", "--release", "--package", "automodel-cli"]))?;
    }
    existing(metadata.target_directory.as_std_path().join("release/automodel"))
}

/// The program under `benches/peers/candle-bench`, for this processor: candle chooses its kernels when it is compiled.
pub fn candle(setup: &Setup) -> Result<PathBuf, String> {
    let target = setup.work.join("candle-target");
    if setup.build {
        let manifest = workspace_root().join("benches/peers/candle-bench/Cargo.toml");
        let mut command = Command::new(cargo_path());
        command.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest);
        cargo(command.arg("--target-dir").arg(&target).env("RUSTFLAGS", "-C target-cpu=native"))?;
    }
    existing(target.join("release/candle-bench"))
}

fn cargo_path() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn cargo(command: &mut Command) -> Result<(), String> {
    let status = command.current_dir(workspace_root()).status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("it could not be built ({status})")) }
}

fn existing(program: PathBuf) -> Result<PathBuf, String> {
    let program = program.with_extension(env::consts::EXE_EXTENSION);
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("it is not built: run without --no-build ({})", name(&program)))
    }
}

fn name(program: &Path) -> String {
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
