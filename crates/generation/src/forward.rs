//! Running the model over prompts and over one token a row.

use crate::{GenerationError, awake::awake};
#[cfg(feature = "cube")]
use automodel_models::CapturedDecode;
use automodel_models::{CacheOptions, CausalLm, DecodeCache, LogitsFor, ModelError, TokenBatch};
use burn::tensor::{Int, Tensor};
use std::ops::Range;

/// A model with the cache of one batch.
pub(crate) struct Forward<'m> {
    model: &'m dyn CausalLm,
    cache: DecodeCache,
    batch_size: usize,
    capacity: Option<usize>,
    /// Most positions of prompts to run at once.
    chunk: Option<usize>,
    position: usize,
    /// Most positions that will be asked for.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "steps over fixed buffers have to know"))]
    limit: usize,
    /// Whether steps may be recorded.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "only GPUs record"))]
    record: bool,
    /// Steps over fixed buffers, once a device has chosen the first token; `None` within where there are none.
    #[cfg(feature = "cube")]
    steps: Option<Option<CapturedDecode>>,
    /// All tokens of each row, kept where the cache must be computed again at some length.
    history: Option<History>,
    /// Length at which the cache was computed again.
    recomputed_at: Option<usize>,
}

struct History {
    /// See [`CausalLm::cache_valid_to`].
    limit: usize,
    rows: Vec<Vec<u32>>,
}

impl<'m> Forward<'m> {
    pub(crate) fn new(
        model: &'m dyn CausalLm,
        batch_size: usize,
        capacity: Option<usize>,
        chunk: Option<usize>,
        limit: usize,
        record: bool,
    ) -> Self {
        let cache = model.new_cache(&CacheOptions { batch_size, capacity });
        let recomputed = model.cache_valid_to().filter(|beyond| limit > *beyond);
        let history = recomputed.map(|limit| History { limit, rows: Vec::new() });
        Self {
            model,
            cache,
            batch_size,
            capacity,
            chunk,
            position: 0,
            limit,
            record,
            #[cfg(feature = "cube")]
            steps: None,
            history,
            recomputed_at: None,
        }
    }

    /// Length at which the cache was computed again, if it was.
    pub(crate) fn recomputed_at(&self) -> Option<usize> {
        self.recomputed_at
    }

    /// Runs the prompts, padded on the left, in parts of at most `chunk` positions where the model takes parts; returns the
    /// logits `[batch, 1, vocab]` of each last token.
    pub(crate) fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Tensor<3>, GenerationError> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        if let Some(history) = &mut self.history {
            history.rows = prompts.to_vec();
        }
        let chunk = self.chunk.filter(|_| self.model.supports_chunked_prefill()).unwrap_or(longest).max(1);
        self.cache.announce(longest);
        let mut start = 0usize;
        while start.saturating_add(chunk) < longest {
            let batch = self.batch(prompts, start..start + chunk)?;
            self.model.prefill(&batch, &mut self.cache).map_err(|source| self.failed(source))?;
            start += chunk;
            self.position = start;
        }
        let batch = self.batch(prompts, start..longest)?;
        self.run(&batch)
    }

    /// Runs one token a row, from where a device has chosen the same ones if it has; returns the logits `[batch, 1, vocab]`.
    pub(crate) fn step(
        &mut self,
        tokens: &[u32],
        on_device: Option<Tensor<1, Int>>,
    ) -> Result<Tensor<3>, GenerationError> {
        if let Some(history) = &mut self.history {
            history.rows.iter_mut().zip(tokens).for_each(|(row, &token)| row.push(token));
            if self.position == history.limit {
                return self.recompute();
            }
        }
        if let Some(tokens) = on_device {
            #[cfg(feature = "cube")]
            if let Some(logits) = self.fixed_step(&tokens) {
                return self.advance(1, logits);
            }
            let logits = self.model.forward_tokens(tokens, &mut self.cache);
            return self.advance(1, logits);
        }
        let rows: Vec<&[u32]> = tokens.iter().map(std::slice::from_ref).collect();
        let batch = self.batch(&rows, 0..1)?;
        awake(|| self.run(&batch))
    }

    /// A step over fixed buffers, where the model and its device have such. Their cache takes the place of the other.
    #[cfg(feature = "cube")]
    fn fixed_step(&mut self, tokens: &Tensor<1, Int>) -> Option<Result<Tensor<3>, ModelError>> {
        if self.steps.is_none() {
            // A sequence that is computed again on its way needs the other cache.
            let recomputes = self.history.as_ref().is_some_and(|history| self.position <= history.limit);
            let steps = match recomputes {
                false => self.model.captured_decode(&self.cache, self.limit, tokens.clone(), self.record),
                true => Ok(None),
            };
            match steps {
                Ok(steps) => {
                    if steps.is_some() {
                        let options = CacheOptions { batch_size: self.batch_size, capacity: self.capacity };
                        self.cache = self.model.new_cache(&options);
                    }
                    self.steps = Some(steps);
                }
                Err(error) => return Some(Err(error)),
            }
        }
        self.steps.as_mut()?.as_mut().map(CapturedDecode::run)
    }

    /// Starts over with everything seen so far.
    fn recompute(&mut self) -> Result<Tensor<3>, GenerationError> {
        let rows = self.history.as_mut().map(|history| std::mem::take(&mut history.rows)).unwrap_or_default();
        self.cache = self.model.new_cache(&CacheOptions { batch_size: self.batch_size, capacity: self.capacity });
        self.recomputed_at = Some(self.position);
        self.position = 0;
        self.prefill(&rows)
    }

    fn batch<R: AsRef<[u32]>>(&self, rows: &[R], columns: Range<usize>) -> Result<TokenBatch, GenerationError> {
        TokenBatch::columns(rows, columns, self.model.vocab_size()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: ModelError) -> GenerationError {
        GenerationError::Model { position: self.position, source: Box::new(source) }
    }

    fn run(&mut self, batch: &TokenBatch) -> Result<Tensor<3>, GenerationError> {
        let logits = self.model.forward(batch, LogitsFor::Last, &mut self.cache);
        self.advance(batch.length(), logits)
    }

    /// After a pass over `length` positions.
    fn advance(&mut self, length: usize, logits: Result<Tensor<3>, ModelError>) -> Result<Tensor<3>, GenerationError> {
        let logits = logits.map_err(|source| self.failed(source))?;
        self.position += length;
        let expected = [self.batch_size, 1, self.model.vocab_size()];
        let found = logits.dims();
        if found != expected {
            return Err(GenerationError::LogitsShape { expected: expected.to_vec(), found: found.to_vec() });
        }
        Ok(logits)
    }
}
