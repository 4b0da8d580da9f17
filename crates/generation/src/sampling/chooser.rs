//! The choice of tokens for a batch, by the host or where the logits are.

use super::{DeviceSampler, Sampler, SamplingOptions, host_values};
use crate::GenerationError;
use burn::tensor::{Device, Int, Tensor};

/// Chooses the tokens of a batch, step by step.
pub(crate) enum Chooser {
    /// From logits that are read to the host.
    Host {
        samplers: Vec<Sampler>,
        vocab_size: usize,
        /// Those of the last step, `[rows, vocab_size]`.
        logits: Vec<f32>,
    },
    /// By the device, of which only the tokens are read.
    Device(Box<DeviceSampler>),
}

impl Chooser {
    /// On the device if that can, otherwise on the host. The prompts are in the vocabulary.
    pub(crate) fn new(
        options: &SamplingOptions,
        prompts: &[Vec<u32>],
        vocab_size: usize,
        device: &Device,
    ) -> Result<Self, GenerationError> {
        if DeviceSampler::serves(device, prompts.len(), vocab_size) {
            let sampler = DeviceSampler::new(options, prompts, vocab_size, device)?;
            return Ok(Self::Device(Box::new(sampler)));
        }
        Ok(Self::Host { samplers: Sampler::for_prompts(options, prompts)?, vocab_size, logits: Vec::new() })
    }

    /// Takes the logits `[rows, 1, vocab_size]` of a step, and waits for what the host needs of them.
    pub(crate) fn take(&mut self, step: Tensor<3>) -> Result<(), GenerationError> {
        match self {
            Self::Host { logits, .. } => *logits = host_values(step.try_into_data())?,
            Self::Device(sampler) => sampler.choose(step.squeeze_dim(1))?,
        }
        Ok(())
    }

    /// The next token of a row, once for each step.
    pub(crate) fn token(&mut self, row: usize) -> Result<u32, GenerationError> {
        match self {
            Self::Host { samplers, vocab_size, logits } => {
                samplers[row].next_token(&logits[row * *vocab_size..(row + 1) * *vocab_size])
            }
            Self::Device(sampler) => sampler.token(row),
        }
    }

    /// The tokens `[rows]` of the step where the device has them.
    pub(crate) fn tokens(&self) -> Option<Tensor<1, Int>> {
        match self {
            Self::Host { .. } => None,
            Self::Device(sampler) => Some(sampler.tokens()),
        }
    }
}
