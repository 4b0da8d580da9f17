//! Helpers for several modules, beside those of `automodel-test-support`.

pub use automodel_test_support::checkpoints::{Tensors, copy_of_directory, edit_json, edit_tensors};
pub use automodel_test_support::compare::{assert_says, check_all, distance, message};
pub use automodel_test_support::fixtures::{Reference, bitsandbytes, checkpoint, checkpoints, fixture};

use automodel::{AutoModel, AutoModelError, AutoModelForCausalLM};
use std::path::Path;
use tempfile::TempDir;

/// A copy of a checkpoint fixture, without its reference, to be changed.
pub fn copy_of(name: &str) -> TempDir {
    copy_of_directory(&checkpoint(name))
}

/// Loads a directory with nothing asked for.
pub fn load(directory: &Path) -> Result<AutoModel, AutoModelError> {
    AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).load()
}
