//! What decoding keeps between calls.

use crate::ConvState;
use automodel_attention::KvCache;
#[cfg(feature = "cube")]
use automodel_attention::step::StaticKvCache;
use std::any::Any;

/// State of every mixer and the length of what was seen.
#[derive(Debug)]
pub struct DecodeCache {
    /// One state for each mixer, in the order of the layers and their branches.
    pub states: Vec<MixerState>,
    batch_size: usize,
    length: usize,
    padding: Vec<usize>,
    /// Positions that are announced, without padding.
    announced: usize,
}

/// State of one mixer.
#[derive(Debug)]
#[non_exhaustive]
pub enum MixerState {
    /// KV cache of an attention.
    Attention(Box<KvCache>),
    /// KV cache of an attention in buffers of fixed capacity, for captured decoding.
    #[cfg(feature = "cube")]
    FixedAttention(Box<StaticKvCache>),
    /// Last inputs of a short convolution.
    Conv(Box<ConvState>),
    /// State of a custom implementation.
    Custom(Box<dyn CustomState>),
}

/// State that only its own implementation understands.
pub trait CustomState: Any + Send + Sync + std::fmt::Debug {
    /// Bytes that it occupies.
    fn bytes(&self) -> usize;
}

impl MixerState {
    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Attention(cache) => cache.bytes(),
            #[cfg(feature = "cube")]
            Self::FixedAttention(cache) => cache.bytes(),
            Self::Conv(state) => state.bytes(),
            Self::Custom(state) => state.bytes(),
        }
    }
}

impl DecodeCache {
    /// An empty cache.
    pub fn new(batch_size: usize, states: Vec<MixerState>) -> Self {
        Self { states, batch_size, length: 0, padding: vec![0; batch_size], announced: 0 }
    }

    /// Number of sequences.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Positions seen so far, padding included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Says that the passes to come are parts of prompts of which the longest has `length` tokens. Rotary embeddings that depend
    /// on the length of a sequence (dynamic NTK, LongRoPE) then are those of the whole prompt from its first part on.
    pub fn announce(&mut self, length: usize) {
        self.announced = length;
    }

    /// Tokens of the longest prompt, where that was [announced](Self::announce); 0 otherwise.
    pub fn announced(&self) -> usize {
        self.announced
    }

    /// Padded positions at the start of each sequence.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }

    /// Bytes that all states occupy.
    pub fn bytes(&self) -> usize {
        self.states.iter().map(MixerState::bytes).sum()
    }

    /// Records that `batch` was seen. Called by implementations at the end of a forward pass.
    ///
    /// # Errors
    /// [`ModelError::CacheBatchSize`](crate::ModelError::CacheBatchSize) and
    /// [`ModelError::PaddingAfterStart`](crate::ModelError::PaddingAfterStart); see [`check`](Self::check).
    pub fn advance(&mut self, batch: &crate::TokenBatch) -> Result<(), crate::ModelError> {
        self.check(batch)?;
        if self.length == 0 {
            self.padding = batch.padding().to_vec();
        }
        self.length += batch.length();
        Ok(())
    }

    /// Checks that `batch` can continue this cache.
    ///
    /// # Errors
    /// [`ModelError::CacheBatchSize`](crate::ModelError::CacheBatchSize) for another number of sequences,
    /// [`ModelError::PaddingAfterStart`](crate::ModelError::PaddingAfterStart) for padding after the first batch.
    pub fn check(&self, batch: &crate::TokenBatch) -> Result<(), crate::ModelError> {
        self.check_size(batch.batch_size())?;
        if self.length > 0 && batch.padding().iter().any(|&padding| padding > 0) {
            return Err(crate::ModelError::PaddingAfterStart);
        }
        Ok(())
    }

    /// Checks that a batch of `batch` sequences can continue this cache.
    pub(crate) fn check_size(&self, batch: usize) -> Result<(), crate::ModelError> {
        if batch != self.batch_size {
            return Err(crate::ModelError::CacheBatchSize { batch, cache: self.batch_size });
        }
        Ok(())
    }

    /// Records that one token a row was seen.
    pub(crate) fn advance_by_one(&mut self) {
        self.length += 1;
    }
}
