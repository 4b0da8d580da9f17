//! `automodel plan`: where each parameter comes from and what it becomes.

use crate::{error::CliError, model_args::ModelArgs, output};
use automodel::loader::LoadPlan;

/// Show the load plan.
#[derive(Debug, clap::Args)]
#[command(after_help = "Reads config and headers, no weights.\n\nExample: automodel plan demo --rows 5")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Show only the first N parameters
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let mut plan = args.model.builder().inspect()?.plan;
    let rows = args.rows.unwrap_or(plan.rows.len());
    if json {
        plan.rows.truncate(rows);
        output::print_json(&plan)
    } else {
        output::print(&first_rows(&plan, rows))
    }
}

/// The plan's table with its first rows; what it says of the whole plan stays.
fn first_rows(plan: &LoadPlan, rows: usize) -> String {
    let hidden = plan.rows.len().saturating_sub(rows);
    let shown = plan.rows.len() - hidden;
    let mut text = String::new();
    for (index, line) in plan.to_string().lines().enumerate() {
        // Line 0 is the header.
        if index == shown + 1 && hidden > 0 {
            text.push_str(&format!("... {hidden} more\n"));
        }
        if index <= shown || index > plan.rows.len() {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
