//! Options of sampling and stopping.

use automodel::generation::GenerationOptions;

/// Options of sampling and stopping. Defaults are the checkpoint's generation config.
#[derive(Debug, clap::Args)]
pub struct SamplingArgs {
    /// Maximum of tokens to generate [default: the checkpoint's]
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub max_new_tokens: Option<usize>,
    /// Greedy decoding: take the most likely token
    #[arg(long, conflicts_with_all = ["sample", "temperature", "top_k", "top_p", "min_p"], help_heading = "Generation")]
    pub greedy: bool,
    /// Sample; implied by --temperature, --top-k, --top-p, --min-p
    #[arg(long, help_heading = "Generation")]
    pub sample: bool,
    /// Divide the logits by this before sampling
    #[arg(long, value_name = "X", help_heading = "Generation")]
    pub temperature: Option<f64>,
    /// Sample from the N most likely tokens; 0 for all
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub top_k: Option<usize>,
    /// Sample from the most likely tokens that reach this probability
    #[arg(long, value_name = "P", help_heading = "Generation")]
    pub top_p: Option<f64>,
    /// Sample from tokens of at least this share of the highest probability
    #[arg(long, value_name = "P", help_heading = "Generation")]
    pub min_p: Option<f64>,
    /// Make tokens that occurred less likely; 1 has no effect
    #[arg(long, value_name = "X", help_heading = "Generation")]
    pub repetition_penalty: Option<f64>,
    /// Seed of the random numbers; the same seed gives the same text
    #[arg(long, value_name = "N", help_heading = "Generation")]
    pub seed: Option<u64>,
    /// End the text before this string; may be repeated
    #[arg(long, value_name = "STRING", allow_hyphen_values = true, help_heading = "Generation")]
    pub stop: Vec<String>,
    /// Continue after end-of-sequence tokens
    #[arg(long, help_heading = "Generation")]
    pub ignore_eos: bool,
    /// Prompt tokens of a prefill pass; 0 for all
    #[arg(long, value_name = "N", default_value_t = GenerationOptions::PREFILL_CHUNK, help_heading = "Generation")]
    pub prefill_chunk: usize,
    /// Allow more tokens than the model's positions
    #[arg(long, help_heading = "Generation")]
    pub allow_long_sequences: bool,
    /// Ignore settings of generation_config.json that are not implemented
    #[arg(long, help_heading = "Generation")]
    pub allow_unsupported: bool,
}

impl SamplingArgs {
    /// The options of the library.
    pub fn options(&self) -> GenerationOptions {
        let narrowed =
            self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let do_sample = match (self.greedy, self.sample || narrowed) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        };
        GenerationOptions {
            // The command uses the GPU from one thread.
            capture_graph: true,
            max_new_tokens: self.max_new_tokens,
            do_sample,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop_strings: (!self.stop.is_empty()).then(|| self.stop.clone()),
            ignore_eos: self.ignore_eos,
            prefill_chunk: Some(self.prefill_chunk).filter(|&chunk| chunk > 0),
            allow_long_sequences: self.allow_long_sequences,
            allow_unsupported: self.allow_unsupported,
            ..GenerationOptions::default()
        }
    }
}
