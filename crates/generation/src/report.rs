//! Events during a generation and the report at its end.

/// A new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationEvent<'e> {
    /// Index of the prompt.
    pub row: usize,
    /// The token.
    pub token: u32,
    /// The text that became final with it, as valid UTF-8. Often empty: a token may be part of a character, or of a possible stop
    /// string. The pieces of a row together are its text.
    pub text: &'e str,
    /// Why the row finished with this token, if it did.
    pub finish_reason: Option<FinishReason>,
}

/// Why a row finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model generated an end-of-sequence token.
    Eos,
    /// A stop string appeared.
    StopString,
    /// It reached the maximum of new tokens.
    MaxNewTokens,
    /// The caller cancelled the generation.
    Cancelled,
}

/// The continuation of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedText {
    /// The generated tokens, including the end-of-sequence token.
    pub token_ids: Vec<u32>,
    /// Their text, without the end-of-sequence token (unless special tokens are kept) and without the stop string; empty
    /// without a tokenizer.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// The report of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationReport {
    /// One text for each prompt, in their order.
    pub texts: Vec<GeneratedText>,
    /// How long it took.
    pub timings: GenerationTimings,
    /// The seed: passing it again gives the same texts.
    pub seed: u64,
    /// Length at which the KV cache was recomputed from the start, if it was: the frequencies of LongRoPE change there, and
    /// transformers recomputes sequences of this model ([`CausalLm::cache_valid_to`]).
    ///
    /// [`CausalLm::cache_valid_to`]: automodel_models::CausalLm::cache_valid_to
    pub recomputed_at: Option<usize>,
}

/// Wall-clock timings of a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GenerationTimings {
    /// Prefill, in seconds.
    pub prefill_seconds: f64,
    /// Time to first token, tokenisation included, in seconds.
    pub first_token_seconds: f64,
    /// From the first token to the last, in seconds.
    pub decode_seconds: f64,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Tokens generated after the first of each row.
    pub decoded_tokens: usize,
}

impl GenerationTimings {
    /// Prompt tokens per second; `None` if nothing was measured.
    pub fn prefill_tokens_per_second(&self) -> Option<f64> {
        rate(self.prompt_tokens, self.prefill_seconds)
    }

    /// Tokens per second after the first of each row; `None` if nothing was measured.
    pub fn decode_tokens_per_second(&self) -> Option<f64> {
        rate(self.decoded_tokens, self.decode_seconds)
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}
