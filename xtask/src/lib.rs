//! The development tasks that other packages of the workspace use: random checkpoints, and virtual environments of Python.

pub mod make_checkpoint;
pub mod python_environment;

use std::{
    error::Error,
    path::{Path, PathBuf},
};

/// A result with any error.
pub type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The directory of the workspace's `Cargo.toml`.
pub fn workspace_root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}
