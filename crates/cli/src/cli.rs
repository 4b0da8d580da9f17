//! The arguments of the command.

use crate::commands::{
    architectures, bench, cache, chat, doctor, generate, inspect, logits, plan, pull, quantize, save,
};
use clap::{ArgAction, Parser, Subcommand};

const AFTER_HELP: &str = "\
MODEL is a directory in Hugging Face layout, a repo id of the Hugging Face Hub, or `demo`: a small
built-in model that adds two numbers below 100 (a directory of that name is ./demo). Files of a repo
that are missing in the Hugging Face cache are downloaded; --offline or HF_HUB_OFFLINE=1 forbids it.

Weights keep the dtype of their file unless --dtype is given; on the CPU, products with weights in
half precision compute in float32.

Exit codes: 0 success, 1 error, 2 wrong usage.

Example: automodel generate demo --prompt \"27+48=\"";

/// Point it at a Hugging Face checkpoint, get a running model.
#[derive(Debug, Parser)]
#[command(name = "automodel", bin_name = "automodel", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// Write results, and errors, as JSON
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Log to standard error: -v timings, -vv details
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Continue prompts
    Generate(generate::Args),
    /// Chat with a model, line by line
    Chat(chat::Args),
    /// Show the config, implementation and load plan of a model
    Inspect(inspect::Args),
    /// Show how much memory a model needs, whether it fits, and the load plan
    Plan(plan::Args),
    /// Download a repo into the cache
    Pull(pull::Args),
    /// List, verify or prune the cache
    Cache(cache::Args),
    /// List the supported architectures, or show what one computes
    Architectures(architectures::Args),
    /// Measure loading, prefill and decode
    Bench(bench::Args),
    /// Write a checkpoint that transformers reads back
    Save(save::Args),
    /// Write a 4-bit checkpoint that transformers and bitsandbytes read
    Quantize(quantize::Args),
    /// Compute the logits of a sequence of token ids
    Logits(logits::Args),
    /// Check the devices of this machine
    Doctor(doctor::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for mut command in Cli::command().get_subcommands().cloned() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example: automodel "), "{help}");
        }
    }
}
