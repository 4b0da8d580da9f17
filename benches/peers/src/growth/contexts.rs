//! Tokens a second by the length of the context.

use std::path::Path;

use serde_json::{Value, json};

use super::Ours;
use crate::{measurement::Measurement, table};

pub struct Row {
    context: u32,
    dense: Measurement,
    nf4: Measurement,
}

/// A run that fails leaves its figures out, and says why on standard error.
pub fn measure(ours: &Ours<'_>, model: &Path, context: u32, new_tokens: u32) -> Row {
    let bench = |name: &str, options: &[&str]| {
        let (prompt, new) = (context.to_string(), new_tokens.to_string());
        let options = [&["--prompt-tokens", &prompt, "--new-tokens", &new], options].concat();
        let output = ours.run("bench", model, &options);
        let measurement = output.and_then(|finished| Measurement::parse(&finished.stdout));
        eprintln!("context {context}, {name}: {}", measurement.as_ref().map_or_else(String::as_str, |_| "done"));
        measurement.unwrap_or_default()
    };
    Row { context, dense: bench("dense", &[]), nf4: bench("nf4", &["--quantize", "nf4"]) }
}

pub fn markdown(rows: &[Row]) -> String {
    let head = [
        "context",
        "dense prefill tokens/s",
        "dense decode tokens/s",
        "dense peak MiB",
        "nf4 prefill tokens/s",
        "nf4 decode tokens/s",
        "nf4 peak MiB",
    ];
    let cells = |figures: &Measurement| {
        let peak = figures.peak_resident_bytes.map(|bytes| bytes / f64::from(1 << 20));
        [figures.prefill_tokens_per_second, figures.decode_tokens_per_second, peak].map(table::figure)
    };
    let row = |row: &Row| [&[row.context.to_string()][..], &cells(&row.dense), &cells(&row.nf4)].concat();
    table::markdown(&head, &rows.iter().map(row).collect::<Vec<_>>())
}

impl Row {
    pub fn json(&self) -> Value {
        json!({"context": self.context, "dense": self.dense.json(), "nf4": self.nf4.json()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_both_models() {
        let dense = Measurement {
            prefill_tokens_per_second: Some(50.0),
            decode_tokens_per_second: Some(4.0),
            peak_resident_bytes: Some(1048576.0),
            ..Measurement::default()
        };
        let text = markdown(&[Row { context: 1024, dense, nf4: Measurement::default() }]);
        assert!(text.ends_with("| 1024 | 50.0 | 4.00 | 1.00 | - | - | - |\n"), "{text}");
    }
}
