//! `automodel generate`: continue prompts.

use crate::{
    error::CliError,
    model_args::{Loaded, ModelArgs},
    output, prompts,
    sampling_args::SamplingArgs,
    units,
};
use automodel::AutoModel;
use automodel::generation::{FinishReason, GenerationOptions, GenerationReport, GenerationTimings, Prompt};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
The text of one prompt is streamed. Several prompts run as one batch and are printed at the end, in
their order. Defaults of the settings are those of the checkpoint's generation_config.json.

Example: automodel generate demo --prompt \"27+48=\"";

/// Continue prompts.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue; may be repeated [default: standard input]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// File with a text to continue; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Vec<PathBuf>,
    /// Leave out the special tokens that the tokenizer adds to a prompt
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let texts = args.prompts()?;
    let loaded = args.model.load(json)?;
    let options = GenerationOptions { add_special_tokens: !args.raw, ..args.sampling.options() };
    match texts.as_slice() {
        [text] if !json => {
            let report = stream(&loaded.model, text.as_str().into(), &options)?;
            log_timings(&report);
            Ok(())
        }
        _ => run_batch(&loaded, &texts, &options, json),
    }
}

impl Args {
    fn prompts(&self) -> Result<Vec<String>, CliError> {
        if !self.prompt_file.is_empty() {
            return self.prompt_file.iter().map(|path| prompts::from_file(path)).collect();
        }
        if !self.prompt.is_empty() {
            return Ok(self.prompt.clone());
        }
        if std::io::stdin().is_terminal() {
            // For a user who waits at a terminal.
            output::say("Reading the prompt from standard input; end it with Ctrl-D.");
        }
        Ok(vec![prompts::from_stdin()?])
    }
}

/// Continues one prompt, streams its text to standard output, and ends the line.
pub fn stream(model: &AutoModel, prompt: Prompt, options: &GenerationOptions) -> Result<GenerationReport, CliError> {
    let mut written = Ok(());
    let mut started = false;
    let result = model.generate(&[prompt], options, &mut |event| {
        if event.text.is_empty() {
            return ControlFlow::Continue(());
        }
        started = true;
        written = output::print_generated(event.text);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    written?;
    if result.is_ok() || started {
        output::print("\n")?;
    }
    Ok(result?)
}

fn run_batch(loaded: &Loaded, texts: &[String], options: &GenerationOptions, json: bool) -> Result<(), CliError> {
    let prompts: Vec<Prompt> = texts.iter().map(|text| text.as_str().into()).collect();
    let report = loaded.model.generate(&prompts, options, &mut |_| ControlFlow::Continue(()))?;
    log_timings(&report);
    if json {
        return output::print_json(&as_json(texts, &report, loaded));
    }
    let parts =
        texts.iter().zip(&report.texts).enumerate().map(|(index, (prompt, generated))| {
            format!("[{index}] {}\n{}\n", output::shorten(prompt, 76), generated.text)
        });
    output::print_generated(&parts.collect::<Vec<_>>().join("\n"))
}

fn as_json(prompts: &[String], report: &GenerationReport, loaded: &Loaded) -> Value {
    let texts = prompts.iter().zip(&report.texts).map(|(prompt, generated)| {
        json!({
            "prompt": prompt,
            "text": generated.text,
            "token_ids": generated.token_ids,
            "finish_reason": finish_reason(generated.finish_reason),
            "prompt_tokens": generated.prompt_tokens,
        })
    });
    json!({
        "texts": texts.collect::<Vec<_>>(),
        "seed": report.seed,
        "recomputed_at": report.recomputed_at,
        "load_seconds": loaded.seconds,
        "timings": timings(&report.timings),
        "warnings": loaded.warnings,
    })
}

fn timings(timings: &GenerationTimings) -> Value {
    json!({
        "prompt_tokens": timings.prompt_tokens,
        "decoded_tokens": timings.decoded_tokens,
        "first_token_seconds": timings.first_token_seconds,
        "prefill_seconds": timings.prefill_seconds,
        "decode_seconds": timings.decode_seconds,
        "prefill_tokens_per_second": timings.prefill_tokens_per_second(),
        "decode_tokens_per_second": timings.decode_tokens_per_second(),
    })
}

/// The name of a reason in JSON.
pub fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Eos => "eos",
        FinishReason::StopString => "stop_string",
        FinishReason::MaxNewTokens => "max_new_tokens",
        FinishReason::Cancelled => "cancelled",
        _ => "other",
    }
}

/// Logs the timings for `-v`.
pub fn log_timings(report: &GenerationReport) {
    let timings = &report.timings;
    if let Some(length) = report.recomputed_at {
        tracing::info!("the KV cache was recomputed at {length} positions, where the frequencies of LongRoPE change");
    }
    tracing::info!(
        "prompt: {} tokens in {}, {}",
        timings.prompt_tokens,
        units::seconds(timings.prefill_seconds),
        units::rate(timings.prefill_tokens_per_second()),
    );
    tracing::info!(
        "first token after {}, then {} tokens in {}, {}; seed {}",
        units::seconds(timings.first_token_seconds),
        timings.decoded_tokens,
        units::seconds(timings.decode_seconds),
        units::rate(timings.decode_tokens_per_second()),
        report.seed,
    );
}
