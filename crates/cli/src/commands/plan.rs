//! `automodel plan`: how much memory a model needs, and the source and target of each parameter.

use crate::{error::CliError, escape, forecast_table::forecast_table, model_args::ModelArgs, output, values};
use automodel::DeviceName;
use automodel::ForecastOptions;
use automodel::loader::LoadPlan;
use serde_json::Value;
use std::borrow::Cow;

const AFTER_HELP: &str = "\
Reads config and headers, no weights. Shows the memory that the model needs in floats and in 4 bits,
with the KV cache for several lengths of context, and whether that fits.

Example: automodel plan demo --context 1k,32k --rows 5";

/// Show how much memory the model needs, and the load plan.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Lengths of context to forecast: 4096 or 1k,32k
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = values::positions)]
    context: Vec<usize>,
    /// Number of sequences in a batch
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::at_least_one)]
    batch: usize,
    /// Show the sources of the first N parameters, or of `all`
    #[arg(long, value_name = "N", value_parser = values::row_count)]
    rows: Option<usize>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let builder = args.model.builder(json)?;
    let summary = builder.inspect()?;
    let (assumed, mut plan) = (summary.resolution.assumption(), summary.plan);
    let request = ForecastOptions::default().with_contexts(args.context.iter().copied()).with_batch_size(args.batch);
    let forecast = builder.forecast(&request)?;
    if json {
        plan.rows.truncate(args.rows.unwrap_or(usize::MAX));
        let to_value = |source| CliError::Json { source };
        let mut value = serde_json::to_value(&plan).map_err(to_value)?;
        if let Value::Object(object) = &mut value {
            object.insert("forecast".to_owned(), serde_json::to_value(&forecast).map_err(to_value)?);
        }
        return output::print_json(&value);
    }
    escape_names(&mut plan);
    let assumption = assumed.map(|warning| format!("{}\n\n", escape::line(&warning))).unwrap_or_default();
    let mut text = assumption + &forecast_table(&device_label(args.model.device), &forecast);
    text.push('\n');
    text.push_str(&first_rows(&plan, args.rows.unwrap_or(0)));
    if args.rows.is_none() {
        text.push_str("`--rows all` shows the source of each parameter\n");
    }
    output::print(&text)
}

fn device_label(device: DeviceName) -> String {
    if device == DeviceName::Cpu { "the CPU".to_owned() } else { device.to_string() }
}

/// Escapes names from files, so that each row of the plan's text is a line.
fn escape_names(plan: &mut LoadPlan) {
    plan.for_each_name(&mut |name| {
        if let Cow::Owned(escaped) = escape::line(name) {
            *name = escaped;
        }
    });
}

/// The plan's table with its first rows, and its summary.
fn first_rows(plan: &LoadPlan, rows: usize) -> String {
    let text = plan.to_string();
    let shown = plan.rows.len().min(rows);
    // Line 0 is the header, an empty line ends the table.
    let summary = plan.rows.len() + 2;
    let mut lines: Vec<&str> = Vec::new();
    let hidden = format!("... {} more", plan.rows.len() - shown);
    if shown > 0 {
        lines.extend(text.lines().take(shown + 1));
        lines.extend((shown < plan.rows.len()).then_some(hidden.as_str()));
        lines.push("");
    }
    lines.extend(text.lines().skip(summary));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
