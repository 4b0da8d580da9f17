//! What several modules need: fixtures, their references, copies to damage.

use automodel::{AutoModel, AutoModelError, AutoModelForCausalLM};
use safetensors::{SafeTensors, serialize_to_file, tensor::TensorView};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// A path below `fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// The directory of a checkpoint fixture.
pub fn checkpoint(name: &str) -> PathBuf {
    fixture("checkpoints").join(name)
}

/// Names of all checkpoint fixtures, sorted.
pub fn checkpoints() -> Vec<String> {
    let entries = fs::read_dir(fixture("checkpoints")).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What transformers computed from a checkpoint fixture.
pub struct Reference {
    pub tokens: Vec<u32>,
    /// `[length, vocab_size]`, row-major.
    pub logits: Vec<f32>,
    /// The tokens that follow by taking the best logit, never stopping.
    pub greedy: Vec<u32>,
}

impl Reference {
    pub fn read(name: &str) -> Self {
        Self::in_directory(&checkpoint(name))
    }

    /// The reference beside a checkpoint; without greedy tokens where the file has none.
    pub fn in_directory(directory: &Path) -> Self {
        let bytes = fs::read(directory.join("reference.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let data = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
        let ids = |name: &str| -> Vec<u32> {
            let whole = data(name);
            let (ids, rest) = whole.as_chunks::<8>();
            assert!(rest.is_empty());
            ids.iter().map(|id| u32::try_from(i64::from_le_bytes(*id)).unwrap()).collect()
        };
        let logits = data("logits").as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Self {
            tokens: ids("input_ids"),
            logits,
            greedy: if tensors.tensor("greedy").is_ok() { ids("greedy") } else { Vec::new() },
        }
    }
}

/// Calls `check` for all `items`, on all cores, and panics with everything that failed.
pub fn check_all<T: Sync + std::fmt::Display>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(item)));
            if let Err(problem) = outcome.unwrap_or_else(|_| Err("panicked, see above".to_owned())) {
                failures.lock().unwrap().push(format!("{item}: {problem}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), items.len(), failures.join("\n"));
}

/// A copy of a checkpoint fixture, without its reference, to be changed.
pub fn copy_of(name: &str) -> TempDir {
    copy_of_directory(&checkpoint(name))
}

/// The same of any directory.
pub fn copy_of_directory(directory: &Path) -> TempDir {
    let target = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_name() != "reference.safetensors" {
            fs::copy(entry.path(), target.path().join(entry.file_name())).unwrap();
        }
    }
    target
}

/// Changes the JSON file `name` in `directory`.
pub fn edit_json(directory: &Path, name: &str, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = directory.join(name);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Tensors by name: dtype, shape, bytes.
pub type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites the file of an unsharded checkpoint.
pub fn edit_tensors(directory: &Path, edit: impl FnOnce(&mut Tensors)) {
    let path = directory.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    edit(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &path).unwrap();
}

/// Loads a directory with nothing asked for.
pub fn load(directory: &Path) -> Result<AutoModel, AutoModelError> {
    AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).load()
}

/// An error and its causes, as a command prints them.
pub fn message(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Asserts that `message` has every one of `parts`.
#[track_caller]
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// The largest difference in standard deviations of the first, which must be as long as the second.
pub fn distance(expected: &[f32], found: &[f32]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().zip(found).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // A NaN must not be lost in a maximum.
    let largest = largest.fold(0.0, |max: f64, next| if next.is_nan() || next > max { next } else { max });
    let mean = expected.iter().map(|value| f64::from(*value)).sum::<f64>() / expected.len() as f64;
    let variance = expected.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
    largest / (variance / (expected.len() - 1) as f64).sqrt()
}
