//! A folder of config, headers and index to a plan; tiny models are loaded and run. Weights are holes, which is zeros.

use automodel::{AutoModelForCausalLM, ForecastOptions};
use std::error::Error;

use super::{MIB, Target, say};
use crate::Files;

/// Models of more bytes are planned, but not loaded: time is better spent on other inputs.
const MOST_LOADED: u64 = 1 << 20;

pub const TARGET: Target = Target {
    name: "plan",
    run,
    // Threads, and the scratch memory of products.
    fixed_bytes: 96 * MIB,
    bytes_per_byte: 2048,
    words: &[
        "__metadata__",
        "data_offsets",
        "\"F32\"",
        "\"BF16\"",
        "\"U8\"",
        "\"F8_E4M3\"",
        "../",
        ".absmax",
        "\\u001b[31m",
    ],
};

fn run(input: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else { return };
    if Files::split(input).write(directory.path()).is_err() {
        return;
    }
    if let Some(path) = directory.path().to_str()
        && let Err(error) = plan_and_run(path)
    {
        say(error.as_ref());
    }
}

fn plan_and_run(path: &str) -> Result<(), Box<dyn Error>> {
    let model = AutoModelForCausalLM::from_pretrained(path).offline(true).assume_memory(1 << 30);
    let summary = model.inspect()?;
    let _ = format!("{} {}", summary.plan, serde_json::to_string(&summary)?);
    serde_json::to_string(&model.forecast(&ForecastOptions::default())?)?;
    let bytes = summary.target_bytes.values().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
    drop(summary);
    if bytes <= MOST_LOADED {
        model.load()?.logits(&[0, 1])?;
    }
    Ok(())
}
