//! The logits of many checkpoints against those that lie beside them: our side of `fixtures/generate/differential.py`.
//!
//! `differential DIRECTORY...` takes each folder of a directory as a checkpoint with a `reference.safetensors`, and prints one line
//! of JSON for each: the deviation in standard deviations of the logits, or the reason for which it was refused.

use automodel::{AutoModelError, AutoModelForCausalLM, Dtype};
use automodel_test_support::compare::{distance, message};
use automodel_test_support::fixtures::Reference;
use serde_json::{Value, json};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn main() {
    // Panics are results here; the line of JSON has their message.
    std::panic::set_hook(Box::new(|_| {}));
    for directory in std::env::args().skip(1) {
        let folders = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
        let mut folders: Vec<PathBuf> =
            folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        for folder in folders {
            let outcome = catch_unwind(AssertUnwindSafe(|| outcome(&folder)));
            let mut line =
                outcome.unwrap_or_else(|panic| json!({ "outcome": "panic", "reason": panic_message(&*panic) }));
            line["name"] = folder.file_name().unwrap().to_str().into();
            println!("{line}");
        }
    }
}

fn outcome(folder: &Path) -> Value {
    let reference = Reference::in_directory(folder);
    let model = AutoModelForCausalLM::from_pretrained(folder.to_str().unwrap()).dtype(Dtype::Float32).load();
    let logits = match model.and_then(|model| model.logits(&reference.tokens)) {
        Ok(logits) => logits.into_data().try_into_vec::<f32>().unwrap(),
        Err(error) => return json!({ "outcome": "refused", "stage": stage(&error), "reason": message(&error) }),
    };
    if logits.len() != reference.logits.len() {
        let reason = format!("{} logits instead of {}", logits.len(), reference.logits.len());
        return json!({ "outcome": "differs", "reason": reason });
    }
    json!({ "outcome": "computed", "deviation": distance(&reference.logits, &logits) })
}

/// Whether the config itself was refused, or what followed from it.
fn stage(error: &AutoModelError) -> &'static str {
    match error {
        AutoModelError::Config(_) | AutoModelError::Registry(_) => "config",
        AutoModelError::Load(_) => "files",
        _ => "model",
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
