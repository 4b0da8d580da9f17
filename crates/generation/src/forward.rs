//! Running the model over prompts and over one token a row.

use crate::GenerationError;
use automodel_models::{CacheOptions, CausalLm, DecodeCache, LogitsFor, TokenBatch};
use burn::tensor::Tensor;

/// A model with the cache of one batch.
pub(crate) struct Forward<'m> {
    model: &'m dyn CausalLm,
    cache: DecodeCache,
    batch_size: usize,
    capacity: Option<usize>,
    position: usize,
    /// All tokens of each row, kept where the cache must be computed again at some length.
    history: Option<History>,
}

struct History {
    /// See [`CausalLm::recompute_beyond`].
    limit: usize,
    rows: Vec<Vec<u32>>,
}

impl<'m> Forward<'m> {
    pub(crate) fn new(model: &'m dyn CausalLm, batch_size: usize, capacity: Option<usize>) -> Self {
        let cache = model.new_cache(&CacheOptions { batch_size, capacity });
        let history = model.recompute_beyond().map(|limit| History { limit, rows: Vec::new() });
        Self { model, cache, batch_size, capacity, position: 0, history }
    }

    /// Runs the prompts, padded on the left, in pieces of at most `chunk` positions; returns the logits `[batch, vocab]`
    /// of each last token.
    ///
    /// Only the first batch may be padded, so the first piece reaches at least to the first token of every prompt.
    pub(crate) fn prefill(&mut self, prompts: &[Vec<u32>], chunk: Option<usize>) -> Result<Vec<f32>, GenerationError> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
        let mut chunk = chunk.unwrap_or(longest).max(1);
        if let Some(history) = &mut self.history {
            history.rows = prompts.to_vec();
            // Pieces on both sides of the limit would not agree on it.
            chunk = if longest > history.limit { longest } else { chunk };
        }
        let mut end = chunk.max(longest - shortest + 1).min(longest);
        let mut start = 0;
        loop {
            let pieces: Vec<&[u32]> = prompts.iter().map(|prompt| columns(prompt, longest, start, end)).collect();
            let logits = self.run(&pieces)?;
            if end == longest {
                return self.read(logits);
            }
            start = end;
            end = end.saturating_add(chunk).min(longest);
        }
    }

    /// Runs one token a row; returns the logits `[batch, vocab]`.
    pub(crate) fn step(&mut self, tokens: &[u32]) -> Result<Vec<f32>, GenerationError> {
        if let Some(history) = &mut self.history {
            history.rows.iter_mut().zip(tokens).for_each(|(row, &token)| row.push(token));
            if self.position == history.limit {
                return self.recompute();
            }
        }
        let rows: Vec<&[u32]> = tokens.iter().map(std::slice::from_ref).collect();
        let logits = self.run(&rows)?;
        self.read(logits)
    }

    /// Starts over with everything seen so far.
    fn recompute(&mut self) -> Result<Vec<f32>, GenerationError> {
        let rows = self.history.as_ref().map(|history| history.rows.clone()).unwrap_or_default();
        self.cache = self.model.new_cache(&CacheOptions { batch_size: self.batch_size, capacity: self.capacity });
        self.position = 0;
        self.prefill(&rows, None)
    }

    fn run(&mut self, rows: &[&[u32]]) -> Result<Tensor<3>, GenerationError> {
        let position = self.position;
        let failed = |source| GenerationError::Model { position, source: Box::new(source) };
        let batch = TokenBatch::new(rows, self.model.vocab_size()).map_err(failed)?;
        let logits = self.model.forward(&batch, LogitsFor::Last, &mut self.cache).map_err(failed)?;
        self.position += batch.length();
        Ok(logits)
    }

    fn read(&self, logits: Tensor<3>) -> Result<Vec<f32>, GenerationError> {
        let expected = [self.batch_size, 1, self.model.vocab_size()];
        let found = logits.dims();
        if found != expected {
            return Err(GenerationError::LogitsShape { expected: expected.to_vec(), found: found.to_vec() });
        }
        logits
            .try_into_data()
            .map_err(|source| GenerationError::UnreadableLogits { source: Box::new(source) })?
            .try_into_vec::<f32>()
            .map_err(|source| GenerationError::UnreadableLogits { source: format!("{source:?}").into() })
    }
}

/// The tokens of `prompt` in the columns `start..end` of a batch that is padded on the left to `longest`.
fn columns(prompt: &[u32], longest: usize, start: usize, end: usize) -> &[u32] {
    let padding = longest - prompt.len();
    &prompt[start.saturating_sub(padding)..end.saturating_sub(padding)]
}
