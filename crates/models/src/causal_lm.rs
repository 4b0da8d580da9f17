//! Causal language models: tokens in, logits out, with a cache between calls.

use crate::{DecodeCache, Model, ModelError, TokenBatch};
use burn::tensor::{Int, Tensor};

/// A model that gives logits of the next token.
///
/// Object-safe: the generic decoder and dedicated implementations are used through `Box<dyn CausalLm>`.
pub trait CausalLm: Model {
    /// Number of logits per position; token ids are below it.
    fn vocab_size(&self) -> usize;

    /// Longest sequence of the training, `max_position_embeddings`, if it has one.
    fn max_position_embeddings(&self) -> Option<usize>;

    /// Length up to which cached keys hold: a sequence that grows beyond it is computed again from its start, because its
    /// rotary embedding changes there. Of all models with LongRoPE transformers does so for Phi-3 alone; `None` for the others,
    /// whose cached keys keep the angles that they were computed with.
    fn cache_valid_to(&self) -> Option<usize> {
        None
    }

    /// An empty cache for `options.batch_size` sequences.
    fn new_cache(&self, options: &CacheOptions) -> DecodeCache;

    /// Runs `batch` after what `cache` already holds and appends it to the cache.
    ///
    /// Returns logits `[batch, length, vocab_size]`, or `[batch, 1, vocab_size]` for [`LogitsFor::Last`], in float32.
    ///
    /// # Errors
    /// [`ModelError`] if the batch does not fit the cache, the vocabulary or the learned positions.
    fn forward(&self, batch: &TokenBatch, logits: LogitsFor, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError>;

    /// Runs one token a row, whose ids `[batch]` a device has chosen, as [`forward`](Self::forward) runs a batch of length 1;
    /// returns logits `[batch, 1, vocab_size]` in float32.
    ///
    /// The ids are those of the vocabulary: implementations that use them where they are have no means to check that. The default
    /// reads them back to the host, which waits for the device, and calls [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`forward`](Self::forward); [`ModelError::UnreadableTokens`] if the ids cannot be read back.
    fn forward_tokens(&self, tokens: Tensor<1, Int>, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        self.forward(&TokenBatch::read(tokens, self.vocab_size())?, LogitsFor::Last, cache)
    }

    /// Steps of one token a row after what `cache` holds, up to `limit` positions, over buffers that stay where they are, so that
    /// they can be captured as a CUDA graph, which happens if `capture` says so; `tokens` is the int32 buffer `[batch]` that each step reads. `None`,
    /// the default, where there are none.
    ///
    /// # Errors
    /// As [`CapturedDecode::new`](crate::CapturedDecode::new).
    #[cfg(feature = "cube")]
    fn captured_decode(
        &self,
        _cache: &DecodeCache,
        _limit: usize,
        _tokens: Tensor<1, Int>,
        _capture: bool,
    ) -> Result<Option<crate::CapturedDecode>, ModelError> {
        Ok(None)
    }

    /// Whether prompts may come in several passes of many tokens, which then give what a single pass gives. The first of them
    /// may carry more padding than it is long, and later ones begin with token 0 where a row is padded still; see
    /// [`TokenBatch::columns`]. The default is `false`: prompts come whole.
    fn supports_chunked_prefill(&self) -> bool {
        false
    }

    /// Runs `batch` as [`forward`](Self::forward) does for what it leaves in the cache alone: a part of a prompt that is not
    /// its end. The default computes logits of one position and drops them.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn prefill(&self, batch: &TokenBatch, cache: &mut DecodeCache) -> Result<(), ModelError> {
        self.forward(batch, LogitsFor::Last, cache).map(drop)
    }
}

/// Which positions logits are computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// Every position of the batch.
    All,
    /// The last position alone: all that decoding needs, and for long prompts most of the memory.
    Last,
}

/// How a cache is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Number of sequences.
    pub batch_size: usize,
    /// Number of positions to allocate at once; `None` grows as needed.
    pub capacity: Option<usize>,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { batch_size: 1, capacity: None }
    }
}
