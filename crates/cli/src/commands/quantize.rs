//! `automodel quantize`: write a 4-bit checkpoint that transformers and bitsandbytes read.

use crate::{error::CliError, failure, model_args::ModelArgs, output, units, values};
use automodel::loader::RequantizeOptions;
use serde_json::json;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Streams the checkpoint tensor by tensor into the format of bitsandbytes. --quantize selects the
code. An interrupted run is resumed when it is started again with the same settings.

Example: automodel quantize demo --out demo-nf4 --quantize nf4 --double-quant";

/// Write a 4-bit checkpoint that transformers and bitsandbytes read.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Directory to write
    #[arg(long, value_name = "DIR", requires = "quantize")]
    out: PathBuf,
    /// Start another file before one exceeds this size
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = values::byte_size)]
    max_shard_size: u64,
    /// Replace the directory if it holds a checkpoint
    #[arg(long)]
    overwrite: bool,
    /// Start from the beginning even if an interrupted run could be resumed
    #[arg(long)]
    restart: bool,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    // clap requires --out, and --quantize with it.
    let Some(config) = args.model.quantization.config() else { return Ok(()) };
    let mut options = RequantizeOptions::default();
    options.max_shard_bytes = args.max_shard_size;
    options.overwrite = args.overwrite;
    options.restart = args.restart;
    let report = args.model.builder(json)?.quantize_checkpoint(&args.out, &config, &options)?;
    if json {
        return output::print_json(&json!({ "directory": args.out, "report": report }));
    }
    report.warnings.iter().for_each(|warning| failure::warn(warning));
    let mut lines = vec![format!(
        "{} weights quantised, {} tensors written: {} became {} in {} file(s) in {}",
        report.quantized.len(),
        report.tensors,
        units::bytes(report.source_bytes),
        units::bytes(report.total_bytes),
        report.shards.len(),
        args.out.display()
    )];
    lines.extend(report.dense.iter().map(|matrix| format!("{} stayed dense: {}", matrix.tensor, matrix.reason)));
    output::print(&output::lines(lines))
}
