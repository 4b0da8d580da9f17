//! Seconds until a checkpoint is inspected, planned and loaded, by its number of tensors.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::Ours;
use crate::{
    Result, checkpoint,
    measurement::{Measurement, median},
    sizes, table,
};
use xtask::make_checkpoint;

/// Most shards of a checkpoint.
const SHARDS: u64 = 200;
/// Tensors of a layer, and those outside.
const PER_LAYER: u32 = 9;
const OUTSIDE: u32 = 3;
/// As small as a model gets, so that the number of tensors is all that counts.
const TINY: [&str; 5] =
    ["hidden_size=32", "intermediate_size=32", "num_attention_heads=2", "num_key_value_heads=1", "vocab_size=264"];

/// Bytes of a matrix of `TINY`.
const MATRIX: u64 = 2 * 32 * 32;

pub struct Row {
    tensors: u64,
    shards: usize,
    inspect_seconds: Option<f64>,
    plan_seconds: Option<f64>,
    load_seconds: Option<f64>,
}

/// Makes a checkpoint of about `count` tensors if it is not there, and opens it in `rounds` rounds. A step that fails leaves
/// its figure out.
pub fn measure(ours: &Ours<'_>, count: u32) -> Result<Row> {
    let model = ours.setup.work.join(format!("tensors-{count}"));
    make(&model, count)?;
    let shards = checkpoint::shards(&model)?;
    checkpoint::warm(&shards)?;
    let (mut inspect, mut plan, mut load) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ours.setup.rounds {
        inspect.extend(kept(count, ours.run("inspect", &model, &[])).map(|finished| finished.seconds));
        plan.extend(kept(count, ours.run("plan", &model, &["--rows", "1"])).map(|finished| finished.seconds));
        let bench = ours.run("bench", &model, &["--prompt-tokens", "1", "--new-tokens", "1"]);
        let bench = kept(count, bench.and_then(|finished| Measurement::parse(&finished.stdout)));
        load.extend(bench.and_then(|measurement| measurement.load_seconds));
    }
    eprintln!("{count} tensors: done");
    Ok(Row {
        tensors: sizes::read(&model)?.tensors,
        shards: shards.len(),
        inspect_seconds: median(&inspect),
        plan_seconds: median(&plan),
        load_seconds: median(&load),
    })
}

fn kept<T>(count: u32, result: std::result::Result<T, String>) -> Option<T> {
    result.inspect_err(|reason| eprintln!("{count} tensors: {reason}")).ok()
}

fn make(model: &Path, count: u32) -> Result<()> {
    if model.exists() {
        return Ok(());
    }
    let partial = model.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let mut arguments = make_checkpoint::Arguments::preset("llama-tiny", partial.clone());
    let layers = count.saturating_sub(OUTSIDE).div_ceil(PER_LAYER).max(1);
    arguments.overrides = TINY.iter().map(|text| (*text).to_owned()).collect();
    arguments.overrides.push(format!("num_hidden_layers={layers}"));
    // Shards of 100 tensors, until there would be too many.
    let bytes = make_checkpoint::bytes(&arguments)?;
    let shards = u64::from(count).div_ceil(100).clamp(1, SHARDS);
    // Cutting leaves a shard up to a matrix of a layer short: the room for one more keeps their number within bounds.
    arguments.max_shard_size = bytes.div_ceil(shards) + MATRIX;
    arguments.quiet = true;
    make_checkpoint::run(&arguments)?;
    Ok(fs::rename(partial, model)?)
}

pub fn markdown(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        let figures = [row.inspect_seconds, row.plan_seconds, row.load_seconds].map(table::figure);
        let microseconds = row.load_seconds.map(|seconds| 1e6 * seconds / row.tensors as f64);
        [&[row.tensors.to_string(), row.shards.to_string()][..], &figures, &[table::figure(microseconds)]].concat()
    };
    let head = ["tensors", "shards", "inspect s", "plan s", "load s", "load µs a tensor"];
    table::markdown(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}

impl Row {
    pub fn json(&self) -> Value {
        json!({
            "tensors": self.tensors,
            "shards": self.shards,
            "inspect_seconds": self.inspect_seconds,
            "plan_seconds": self.plan_seconds,
            "load_seconds": self.load_seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_have_about_the_tensors_and_shards_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        for (count, most_shards) in [(10, 1), (100, 1), (1000, 10), (3000, 30)] {
            let model = directory.path().join(count.to_string());
            make(&model, count).unwrap();
            let tensors = sizes::read(&model).unwrap().tensors;
            assert!((u64::from(count)..u64::from(count + PER_LAYER)).contains(&tensors), "{tensors} for {count}");
            let shards = checkpoint::shards(&model).unwrap().len();
            assert!(
                (1..=most_shards).contains(&shards) && shards * 10 >= most_shards * 9,
                "{shards} shards for {count}"
            );
        }
    }

    #[test]
    fn rows_have_the_time_of_a_tensor() {
        let row =
            Row { tensors: 1000, shards: 10, inspect_seconds: Some(0.02), plan_seconds: None, load_seconds: Some(0.5) };
        assert!(markdown(&[row]).ends_with("| 1000 | 10 | 0.020 | - | 0.500 | 500 |\n"));
    }
}
