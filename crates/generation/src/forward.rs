//! Prefill and decode steps of a model.

use crate::{GenerationError, spin::with_spinning_pool};
#[cfg(feature = "cube")]
use automodel_models::CapturedDecode;
use automodel_models::{CacheOptions, CausalLm, DecodeCache, LogitsFor, ModelError, TokenBatch};
use burn::tensor::{Int, Tensor};
use std::ops::Range;

/// A model with the KV cache of one batch.
pub(crate) struct Forward<'m> {
    model: &'m dyn CausalLm,
    cache: DecodeCache,
    batch_size: usize,
    capacity: Option<usize>,
    /// Maximum of prompt positions in a prefill pass.
    chunk: Option<usize>,
    position: usize,
    /// Maximum length of a sequence.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "for captured decode alone"))]
    limit: usize,
    /// Whether a decode step may be captured as a graph.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "for captured decode alone"))]
    capture: bool,
    /// Captured decode, which begins after the first token was sampled on the device.
    #[cfg(feature = "cube")]
    captured: Captured,
    /// All tokens of each row, if the cache must be recomputed at some length.
    history: Option<History>,
    /// Length at which the cache was recomputed.
    recomputed_at: Option<usize>,
}

/// Whether decode steps are captured.
#[cfg(feature = "cube")]
enum Captured {
    NotTried,
    Unsupported,
    Steps(Box<CapturedDecode>),
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
        capture: bool,
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
            capture,
            #[cfg(feature = "cube")]
            captured: Captured::NotTried,
            history,
            recomputed_at: None,
        }
    }

    /// Length at which the cache was recomputed, if it was.
    pub(crate) fn recomputed_at(&self) -> Option<usize> {
        self.recomputed_at
    }

    /// Prefills the prompts, padded on the left, in chunks of at most `chunk` positions if the model supports that; returns the
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

    /// Decodes one token of each row; `on_device` has the same tokens if they were sampled on the device. Returns the logits
    /// `[batch, 1, vocab]`.
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
            if let Some(logits) = self.captured_step(&tokens) {
                return self.advance(1, logits);
            }
            let logits = self.model.forward_tokens(tokens, &mut self.cache);
            return self.advance(1, logits);
        }
        let rows: Vec<&[u32]> = tokens.iter().map(std::slice::from_ref).collect();
        let batch = self.batch(&rows, 0..1)?;
        with_spinning_pool(|| self.run(&batch))
    }

    /// A step of captured decode, if the model and its device support it. Its static cache replaces the other one.
    #[cfg(feature = "cube")]
    fn captured_step(&mut self, tokens: &Tensor<1, Int>) -> Option<Result<Tensor<3>, ModelError>> {
        if matches!(self.captured, Captured::NotTried) {
            // A sequence whose cache will be recomputed needs the growing cache.
            let recomputes = self.history.as_ref().is_some_and(|history| self.position <= history.limit);
            let steps = match recomputes {
                false => self.model.captured_decode(&self.cache, self.limit, tokens.clone(), self.capture),
                true => Ok(None),
            };
            match steps {
                Ok(Some(steps)) => {
                    let options = CacheOptions { batch_size: self.batch_size, capacity: self.capacity };
                    self.cache = self.model.new_cache(&options);
                    self.captured = Captured::Steps(Box::new(steps));
                }
                Ok(None) => self.captured = Captured::Unsupported,
                Err(error) => return Some(Err(error)),
            }
        }
        match &mut self.captured {
            Captured::Steps(steps) => Some(steps.run()),
            Captured::NotTried | Captured::Unsupported => None,
        }
    }

    /// Prefills a new cache with all tokens so far.
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
