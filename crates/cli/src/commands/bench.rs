//! `automodel bench`: the speed of loading, prefill and decode.

use crate::{error::CliError, failure, model_args::ModelArgs, output, units, weight_bytes};
use automodel::AutoModel;
use automodel::generation::{GenerationOptions, GenerationTimings, Prompt};
use serde::Serialize;
use std::ops::ControlFlow;

const AFTER_HELP: &str = "\
The prompt is a fixed sequence of token ids, the text is not shown, and end-of-sequence tokens are
ignored.

Example: automodel bench demo --prompt-tokens 32 --new-tokens 16 --rounds 5 --json";

/// Measure loading, prefill and decode.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: u32,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    new_tokens: u32,
    /// Prompt tokens of a prefill pass; 0 for all
    #[arg(long, value_name = "N", default_value_t = GenerationOptions::PREFILL_CHUNK)]
    prefill_chunk: usize,
    /// Generations before the measured ones
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u32,
    /// Measured generations; medians are reported
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// The measurements.
#[derive(Debug, Serialize)]
struct Report {
    /// From the name to the loaded model.
    load_seconds: f64,
    /// Time to first token.
    first_token_seconds: f64,
    /// Peak resident memory of the process; `None` if unknown.
    peak_resident_bytes: Option<u64>,
    prefill_tokens_per_second: Option<f64>,
    /// `None` with a single new token.
    decode_tokens_per_second: Option<f64>,
    /// Bytes of weights that a decode step reads.
    weight_bytes_per_token: Option<u64>,
    prompt_tokens: u32,
    new_tokens: u32,
    warmup: u32,
    rounds: u32,
    warnings: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let loaded = args.model.load(json)?;
    let prompt = prompt(args.prompt_tokens, loaded.model.model().vocab_size());
    for _ in 0..args.warmup {
        measure(&loaded.model, &prompt, args)?;
    }
    let rounds = (0..args.rounds).map(|_| measure(&loaded.model, &prompt, args));
    let rounds = rounds.collect::<Result<Vec<GenerationTimings>, CliError>>()?;
    let peak_resident_bytes = peak_resident_bytes();

    let mut warnings = loaded.warnings;
    if let Some(warning) = beyond_positions(&loaded.model, args) {
        if !json {
            failure::warn(&warning);
        }
        warnings.push(warning);
    }
    let summary = args.model.builder(true)?.inspect()?;
    let report = Report {
        load_seconds: loaded.seconds,
        first_token_seconds: median(rounds.iter().map(|round| Some(round.first_token_seconds))).unwrap_or_default(),
        peak_resident_bytes,
        prefill_tokens_per_second: median(rounds.iter().map(GenerationTimings::prefill_tokens_per_second)),
        decode_tokens_per_second: median(rounds.iter().map(GenerationTimings::decode_tokens_per_second)),
        weight_bytes_per_token: weight_bytes::per_token(&summary, loaded.model.tied()),
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        warmup: args.warmup,
        rounds: args.rounds,
        warnings,
    };
    if json { output::print_json(&report) } else { output::print(&report.as_text()) }
}

/// The same token ids each time, spread over the vocabulary.
fn prompt(length: u32, vocab_size: usize) -> Prompt {
    // A prime step, so that ids do not repeat soon.
    let token = |index: u64| (index * 7919 + 13) % (vocab_size.max(1) as u64);
    Prompt::Tokens((0..u64::from(length)).filter_map(|index| u32::try_from(token(index)).ok()).collect())
}

fn measure(model: &AutoModel, prompt: &Prompt, args: &Args) -> Result<GenerationTimings, CliError> {
    let options = GenerationOptions {
        capture_graph: true,
        max_new_tokens: Some(args.new_tokens as usize),
        prefill_chunk: Some(args.prefill_chunk).filter(|&chunk| chunk > 0),
        do_sample: Some(false),
        ignore_eos: true,
        stop_strings: Some(Vec::new()),
        // Speed does not depend on the quality of the text.
        allow_long_sequences: true,
        allow_unsupported: true,
        ..GenerationOptions::default()
    };
    let report = model.generate(std::slice::from_ref(prompt), &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(report.timings)
}

fn beyond_positions(model: &AutoModel, args: &Args) -> Option<String> {
    let length = args.prompt_tokens as usize + args.new_tokens as usize;
    let limit = model.model().max_position_embeddings().filter(|&limit| length > limit)?;
    Some(format!(
        "{length} tokens exceed the {limit} positions of the model: the text is meaningless, only its speed counts"
    ))
}

/// The median; `None` without values.
fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// `VmHWM` of this process, which Linux counts in KiB.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl Report {
    fn as_text(&self) -> String {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), units::bytes);
        let rows = [
            ("load", units::seconds(self.load_seconds)),
            ("first token", units::seconds(self.first_token_seconds)),
            ("prefill", units::rate(self.prefill_tokens_per_second)),
            ("decode", units::rate(self.decode_tokens_per_second)),
            ("peak resident memory", bytes(self.peak_resident_bytes)),
            ("weights read per token", bytes(self.weight_bytes_per_token)),
        ];
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        format!(
            "{} prompt tokens, {} new ones, {} warm-up(s), median of {} round(s)\n{}",
            self.prompt_tokens,
            self.new_tokens,
            self.warmup,
            self.rounds,
            output::table(&rows, &[1])
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_missing_values() {
        assert_eq!(median([Some(3.0), None, Some(1.0), Some(10.0)].into_iter()), Some(3.0));
        assert_eq!(median([Some(1.0), Some(2.0)].into_iter()), Some(1.5));
        assert_eq!(median([None, None].into_iter()), None);
    }

    #[test]
    fn prompts_are_fixed_and_within_the_vocabulary() {
        let Prompt::Tokens(tokens) = prompt(100, 16) else { panic!("token ids were expected") };
        assert_eq!(tokens.len(), 100);
        assert_eq!(tokens[..3], [13, 12, 11]);
        assert!(tokens.iter().all(|&token| token < 16));
        assert_eq!(prompt(5, 1), Prompt::Tokens(vec![0; 5]));
    }
}
