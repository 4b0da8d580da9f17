//! What a generation tells its caller, while it runs and at the end.

/// A new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationEvent<'e> {
    /// Index of the prompt.
    pub row: usize,
    /// The token.
    pub token: u32,
    /// The text that became certain with it, valid UTF-8 that never changes later. Often empty: a token may be part of a
    /// character, or of what may become a stop string. All pieces of a row together are its text.
    pub text: &'e str,
    /// Why the row ended with this token, if it did.
    pub finish_reason: Option<FinishReason>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended it.
    Eos,
    /// A stop string appeared.
    StopString,
    /// It reached the number of tokens that were allowed.
    MaxNewTokens,
    /// The caller broke off.
    Cancelled,
}

/// What became of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedText {
    /// The generated tokens, with the one that ended the text.
    pub token_ids: Vec<u32>,
    /// Their text, without the end-of-sequence token (unless special tokens are kept) and without the stop string; empty
    /// without a tokenizer.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// What happened in a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationReport {
    /// One text for each prompt, in their order.
    pub texts: Vec<GeneratedText>,
    /// How long it took.
    pub timings: GenerationTimings,
    /// The seed that was used: asking for it again gives the same texts.
    pub seed: u64,
    /// Length at which keys and values were computed again from the start, if they were: the angles of LongRoPE change there,
    /// and the model is one whose sequences transformers computes again ([`CausalLm::cache_valid_to`]).
    ///
    /// [`CausalLm::cache_valid_to`]: automodel_models::CausalLm::cache_valid_to
    pub recomputed_at: Option<usize>,
}

/// How long the parts of a generation took, by the clock on the wall.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GenerationTimings {
    /// Running the prompts through the model, in seconds.
    pub prefill_seconds: f64,
    /// From the call to the first token, tokenizing included, in seconds.
    pub first_token_seconds: f64,
    /// From the first token to the last, in seconds.
    pub decode_seconds: f64,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Tokens generated after the first of each row.
    pub decoded_tokens: usize,
}

impl GenerationTimings {
    /// Prompt tokens a second; `None` if there was nothing to measure.
    pub fn prefill_tokens_per_second(&self) -> Option<f64> {
        rate(self.prompt_tokens, self.prefill_seconds)
    }

    /// Tokens a second after the first of each row; `None` if there was nothing to measure.
    pub fn decode_tokens_per_second(&self) -> Option<f64> {
        rate(self.decoded_tokens, self.decode_seconds)
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}
