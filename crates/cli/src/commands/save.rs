//! `automodel save`: write a checkpoint that transformers reads back.

use crate::{error::CliError, failure, model_args, model_args::ModelArgs, output, units, values};
use automodel::loader::{CheckpointWriter, SaveOptions};
use automodel::{AutoModelError, Dtype, Summary};
use serde_json::json;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Writes the config with its overrides, the weights and the tokenizer. Without --dtype, weights keep
their stored dtype. The directory appears at the end, when it is complete.

With --quantize, or from a 4-bit checkpoint, 4-bit weights are written in the format of
bitsandbytes, with scales in float32 even after --double-quant; --dtype applies to the others.
Experts of a mixture must stay dense: --skip-modules '.*experts'. `automodel quantize` needs less
memory, keeps scales in 8 bits and leaves experts dense by itself.

Example: automodel save demo --out copy --dtype bfloat16";

/// Write a checkpoint that transformers reads back.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Start another file before one exceeds this size
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = values::byte_size)]
    max_shard_size: u64,
    /// Replace the directory if it holds a checkpoint
    #[arg(long)]
    overwrite: bool,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let mut options = SaveOptions::default();
    options.max_shard_bytes = args.max_shard_size;
    options.overwrite = args.overwrite;
    options.dtype = args.model.dtype.float();

    // Checks the output before anything is loaded; dropping the writer leaves nothing behind.
    let builder = args.model.builder(true)?.dtype(Dtype::Auto);
    let summary = builder.inspect()?;
    let probe = CheckpointWriter::new(&args.out, &summary.prepared.lowered.weights, &options);
    drop(probe.map_err(AutoModelError::from)?);

    // Warnings about slow arithmetic do not apply: nothing is computed.
    let model = model_args::load(builder.dtype(as_stored(&summary)), true)?.model;
    let damage = model.report().and_then(model_args::non_finite);
    let mut report = model.save_pretrained(&args.out, &options)?;
    if args.model.quantization.config().is_some() {
        // The effective quantisation is known from the plan.
        report.warnings.splice(0..0, summary.plan.warnings);
    }
    if json {
        return output::print_json(&json!({ "directory": args.out, "report": report, "damage": damage }));
    }
    report.warnings.iter().chain(&damage).for_each(|warning| failure::warn(warning));
    let mut lines = vec![format!(
        "{} tensors, {} in {} to {}",
        report.tensors,
        units::bytes(report.total_bytes),
        report.shards.join(", "),
        args.out.display()
    )];
    lines.extend(report.tied.iter().map(|(parameter, to)| format!("{parameter} is tied to {to} and not written")));
    output::print(&output::lines(lines))
}

/// The dtype to load with so that stored values do not change, half precision included.
fn as_stored(summary: &Summary) -> Dtype {
    let stored = |name: &str| summary.plan.rows.iter().any(|row| row.stored().name() == name);
    match (stored("BF16"), stored("F16")) {
        (true, true) => Dtype::Float32,
        (true, false) => Dtype::BFloat16,
        (false, true) => Dtype::Float16,
        (false, false) => Dtype::Auto,
    }
}
