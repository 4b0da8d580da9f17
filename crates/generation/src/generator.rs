//! The decode loop.

use crate::forward::Forward;
use crate::plan::{GenerationPlan, LongestPrompt, ModelLimits};
use crate::row::Row;
use crate::sampling::BatchSampler;
use crate::{
    FinishReason, GenerationError, GenerationEvent, GenerationOptions, GenerationReport, GenerationTimings,
    TextTokenizer,
};
use automodel_config::GenerationConfig;
use automodel_models::CausalLm;
use std::ops::ControlFlow;
use std::time::Instant;

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text, which requires a tokenizer.
    Text(String),
    /// Token ids, used as they are.
    Tokens(Vec<u32>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(tokens: Vec<u32>) -> Self {
        Self::Tokens(tokens)
    }
}

/// Continues prompts with a model.
#[derive(Clone, Debug)]
pub struct Generator<'m> {
    model: &'m dyn CausalLm,
    tokenizer: Option<&'m TextTokenizer>,
    config: GenerationConfig,
}

impl<'m> Generator<'m> {
    /// A generator for token ids, with the defaults of transformers.
    pub fn new(model: &'m dyn CausalLm) -> Self {
        Self { model, tokenizer: None, config: GenerationConfig::default() }
    }

    /// Adds a tokenizer: prompts may be text, and the report has text.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: &'m TextTokenizer) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// Sets the generation config of the checkpoint: its `generation_config.json`, or else the settings in its `config.json`
    /// ([`GenerationConfig::from_config_file`]).
    #[must_use]
    pub fn with_generation_config(mut self, config: GenerationConfig) -> Self {
        self.config = config;
        self
    }

    /// Continues all `prompts` in one batch, padded on the left. A finished row is fed padding while others continue, and its output
    /// is discarded. `on_event` is called for each token, row by row, and can cancel the generation.
    ///
    /// # Errors
    /// Before anything runs: [`GenerationError::NoPrompts`], [`EmptyPrompt`](GenerationError::EmptyPrompt),
    /// [`TokenOutOfVocabulary`](GenerationError::TokenOutOfVocabulary),
    /// [`SequenceTooLong`](GenerationError::SequenceTooLong), [`InvalidOption`](GenerationError::InvalidOption),
    /// [`IgnoredOption`](GenerationError::IgnoredOption), [`InvalidSetting`](GenerationError::InvalidSetting),
    /// [`UnsupportedOption`](GenerationError::UnsupportedOption),
    /// [`MissingTokenizer`](GenerationError::MissingTokenizer). Later: [`Model`](GenerationError::Model),
    /// [`NonFiniteLogits`](GenerationError::NonFiniteLogits) and what the tokenizer reports.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        options: &GenerationOptions,
        on_event: &mut dyn FnMut(GenerationEvent<'_>) -> ControlFlow<()>,
    ) -> Result<GenerationReport, GenerationError> {
        let start = Instant::now();
        let prompts = self.encode(prompts, options)?;
        let longest = self.check(&prompts)?;
        let limits = ModelLimits {
            vocab_size: self.model.vocab_size(),
            max_position_embeddings: self.model.max_position_embeddings(),
        };
        let plan = GenerationPlan::new(options, &self.config, longest, limits)?;
        if !plan.stop_strings.is_empty() {
            self.tokenizer("finding stop strings")?;
        }
        let mut rows = self.rows(&prompts, options, &plan)?;
        let mut sampler = BatchSampler::new(&plan.sampling, &prompts, limits.vocab_size, &self.model.device())?;

        let limit = longest.tokens.saturating_add(plan.max_new_tokens);
        let capacity = options.preallocate_cache.then_some(limit);
        let mut forward =
            Forward::new(self.model, rows.len(), capacity, options.prefill_chunk, limit, options.capture_graph);
        let prefill = Instant::now();
        sampler.set_logits(forward.prefill(&prompts)?)?;
        let mut timings = GenerationTimings {
            prefill_seconds: prefill.elapsed().as_secs_f64(),
            prompt_tokens: prompts.iter().map(Vec::len).sum(),
            ..GenerationTimings::default()
        };

        let mut next = step(&mut rows, &mut sampler, &plan, on_event)?;
        timings.first_token_seconds = start.elapsed().as_secs_f64();
        let decode = Instant::now();
        while !rows.iter().all(Row::is_finished) {
            // Finished rows keep running; their output is discarded.
            sampler.set_logits(forward.step(&next, sampler.device_tokens())?)?;
            next = step(&mut rows, &mut sampler, &plan, on_event)?;
        }
        timings.decode_seconds = decode.elapsed().as_secs_f64();
        timings.decoded_tokens = rows.iter().map(|row| row.generated_tokens().saturating_sub(1)).sum();

        let texts = rows.into_iter().map(Row::into_generated).collect();
        Ok(GenerationReport { texts, timings, seed: plan.sampling.seed, recomputed_at: forward.recomputed_at() })
    }

    fn tokenizer(&self, purpose: &'static str) -> Result<&'m TextTokenizer, GenerationError> {
        self.tokenizer.ok_or(GenerationError::MissingTokenizer { purpose })
    }

    fn encode(&self, prompts: &[Prompt], options: &GenerationOptions) -> Result<Vec<Vec<u32>>, GenerationError> {
        let encode = |prompt: &Prompt| match prompt {
            Prompt::Tokens(tokens) => Ok(tokens.clone()),
            Prompt::Text(text) => self.tokenizer("a prompt of text")?.encode(text, options.add_special_tokens),
        };
        prompts.iter().map(encode).collect()
    }

    /// Checks the prompts against the vocabulary and returns the longest.
    fn check(&self, prompts: &[Vec<u32>]) -> Result<LongestPrompt, GenerationError> {
        let vocab_size = self.model.vocab_size();
        for (row, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return Err(GenerationError::EmptyPrompt { row });
            }
            if let Some((position, &token)) = prompt.iter().enumerate().find(|&(_, &id)| id as usize >= vocab_size) {
                return Err(GenerationError::TokenOutOfVocabulary { token, row, position, vocab_size });
            }
        }
        let lengths = prompts.iter().map(Vec::len).enumerate().rev();
        let longest = lengths.max_by_key(|&(_, tokens)| tokens).ok_or(GenerationError::NoPrompts)?;
        Ok(LongestPrompt { row: longest.0, tokens: longest.1 })
    }

    fn rows(
        &self,
        prompts: &[Vec<u32>],
        options: &GenerationOptions,
        plan: &GenerationPlan,
    ) -> Result<Vec<Row<'m>>, GenerationError> {
        let row = |(index, prompt): (usize, &Vec<u32>)| Row::new(index, prompt, self.tokenizer, options, plan);
        prompts.iter().enumerate().map(row).collect()
    }
}

/// Gives each unfinished row its token, and returns the next input token of each row.
fn step(
    rows: &mut [Row<'_>],
    sampler: &mut BatchSampler,
    plan: &GenerationPlan,
    on_event: &mut dyn FnMut(GenerationEvent<'_>) -> ControlFlow<()>,
) -> Result<Vec<u32>, GenerationError> {
    let mut next = vec![plan.pad_token_id; rows.len()];
    let mut cancelled = false;
    for (index, (row, next)) in rows.iter_mut().zip(&mut next).enumerate() {
        if !row.is_finished() && !cancelled {
            let event = row.accept(sampler.token(index)?, plan)?;
            if event.finish_reason.is_none() {
                *next = event.token;
            }
            cancelled = on_event(event).is_break();
        }
    }
    if cancelled {
        rows.iter_mut().filter(|row| !row.is_finished()).try_for_each(|row| row.finish(FinishReason::Cancelled))?;
    }
    Ok(next)
}
