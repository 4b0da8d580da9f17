//! Sampling for a batch, on the host or on the device.

use super::{DeviceSampler, Sampler, SamplingOptions, host_values};
use crate::GenerationError;
use burn::tensor::{Device, Int, Tensor};

/// Samples the tokens of a batch, step by step.
pub(crate) enum BatchSampler {
    /// On the host, from logits that are copied back.
    Host {
        samplers: Vec<Sampler>,
        vocab_size: usize,
        /// Logits of the last step, `[rows, vocab_size]`.
        logits: Vec<f32>,
    },
    /// On the device; only the tokens are copied back.
    Device(Box<DeviceSampler>),
}

impl BatchSampler {
    /// Samples on the device if it supports that, otherwise on the host. The tokens of `prompts` are in the vocabulary.
    pub(crate) fn new(
        options: &SamplingOptions,
        prompts: &[Vec<u32>],
        vocab_size: usize,
        device: &Device,
    ) -> Result<Self, GenerationError> {
        if DeviceSampler::supports(device, prompts.len(), vocab_size) {
            let sampler = DeviceSampler::new(options, prompts, vocab_size, device)?;
            return Ok(Self::Device(Box::new(sampler)));
        }
        Ok(Self::Host { samplers: Sampler::for_prompts(options, prompts)?, vocab_size, logits: Vec::new() })
    }

    /// Sets the logits `[rows, 1, vocab_size]` of a step, and waits for the logits or tokens that the host reads back.
    pub(crate) fn set_logits(&mut self, step: Tensor<3>) -> Result<(), GenerationError> {
        match self {
            Self::Host { logits, .. } => *logits = host_values(step.try_into_data())?,
            Self::Device(sampler) => sampler.choose(step.squeeze_dim(1))?,
        }
        Ok(())
    }

    /// The next token of a row; called once for each step.
    pub(crate) fn token(&mut self, row: usize) -> Result<u32, GenerationError> {
        match self {
            Self::Host { samplers, vocab_size, logits } => {
                samplers[row].next_token(&logits[row * *vocab_size..(row + 1) * *vocab_size])
            }
            Self::Device(sampler) => sampler.token(row),
        }
    }

    /// The tokens `[rows]` of the step, if they were sampled on the device.
    pub(crate) fn device_tokens(&self) -> Option<Tensor<1, Int>> {
        match self {
            Self::Host { .. } => None,
            Self::Device(sampler) => Some(sampler.tokens()),
        }
    }
}
