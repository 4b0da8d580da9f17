//! Sampling on the device, where the logits are.

#[cfg(feature = "cube")]
mod kernels;
#[cfg(feature = "cube")]
mod launch;
#[cfg(feature = "cube")]
mod ops;
mod rules;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

#[cfg(feature = "cube")]
use burn::backend::{Dispatch, DispatchDevice};

use super::{Candidates, Sampler, SamplingOptions, host_values};
use crate::GenerationError;
use rules::Rules;

/// Number of steps whose random numbers are uploaded at once.
const STEPS: usize = 64;

/// Samples the tokens of a batch on a GPU, as [`Sampler`] does for each row, with the same rules and random numbers. Only the tokens are
/// copied back.
///
/// Tokens differ from the host's only by rounding: exponentials are computed in float32, and a sum that the host rounds to float32 is
/// compared exactly.
///
/// ```
/// use automodel_generation::DeviceSampler;
/// use burn::tensor::Device;
///
/// // On the CPU, use `Sampler`.
/// assert!(!DeviceSampler::supports(&Device::flex(), 1, 32_000));
/// ```
#[derive(Clone, Debug)]
pub struct DeviceSampler {
    samplers: Vec<Sampler>,
    rules: Rules,
    vocab_size: usize,
    /// `[rows]`; the kernel writes to the same memory step by step.
    tokens: Tensor<1, Int>,
    /// `[rows * ceil(vocab_size / 32)]`, a bit for each token; one element without a penalty.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "for sampling kernels alone"))]
    seen: Tensor<1, Int>,
    /// `[STEPS * rows]`; one element with greedy decoding.
    uniforms: Tensor<1, Int>,
    /// Number of steps whose random numbers were used.
    steps: usize,
    /// Tokens of the last step, copied back; -1 for none.
    chosen: Vec<i32>,
    /// Logits of the last step.
    logits: Option<Tensor<2>>,
}

impl DeviceSampler {
    /// Whether a device supports sampling for such a batch: GPUs do, in builds with their feature, unless the device tracks gradients.
    pub fn supports(device: &Device, rows: usize, vocab_size: usize) -> bool {
        match device.as_dispatch() {
            #[cfg(feature = "cube")]
            DispatchDevice::Cube(device) => launch::supports(device, rows, vocab_size),
            _ => {
                let _ = (rows, vocab_size);
                false
            }
        }
    }

    /// A sampler for a row of a batch after each of `prompts`, whose tokens count for the repetition penalty.
    ///
    /// # Errors
    /// As [`SamplingOptions::validate`]; [`GenerationError::NoDeviceKernels`] if the device does not support it;
    /// [`GenerationError::TokenOutOfVocabulary`].
    pub fn new(
        options: &SamplingOptions,
        prompts: &[Vec<u32>],
        vocab_size: usize,
        device: &Device,
    ) -> Result<Self, GenerationError> {
        let samplers = Sampler::for_prompts(options, prompts)?;
        if !Self::supports(device, prompts.len(), vocab_size) {
            return Err(GenerationError::NoDeviceKernels { device: format!("{device:?}") });
        }
        let rules = Rules::new(options, vocab_size);
        let rows = samplers.len();
        let seen = match rules.penalty {
            Some(_) => seen_bits(prompts, vocab_size)?,
            None => vec![0],
        };
        Ok(Self {
            samplers,
            rules,
            vocab_size,
            tokens: upload(vec![0; rows], device),
            seen: upload(seen, device),
            uniforms: upload(vec![0], device),
            steps: STEPS,
            chosen: vec![-1; rows],
            logits: None,
        })
    }

    /// Samples the next token of each row from logits `[rows, vocab_size]`, observes it, and waits until it is copied back.
    ///
    /// # Errors
    /// [`GenerationError::LogitsShape`]; [`GenerationError::UnreadableLogits`] if the device fails.
    ///
    /// # Panics
    /// As Burn does, if the logits are on another device.
    pub fn choose(&mut self, logits: Tensor<2>) -> Result<(), GenerationError> {
        let (expected, found) = ([self.samplers.len(), self.vocab_size], logits.dims());
        if found != expected {
            return Err(GenerationError::LogitsShape { expected: expected.to_vec(), found: found.to_vec() });
        }
        if self.rules.draw.is_some() && self.steps == STEPS {
            self.draw_ahead();
        }
        let logits = logits.cast(DType::F32);
        self.launch(logits.clone());
        self.logits = Some(logits);
        self.steps += usize::from(self.rules.draw.is_some());
        self.chosen = host_values(self.tokens.clone().try_into_data())?;
        Ok(())
    }

    /// The token of a row in the last step.
    ///
    /// # Errors
    /// [`GenerationError::NonFiniteLogits`] if none could be sampled.
    ///
    /// # Panics
    /// If the batch has no such row.
    pub fn token(&self, row: usize) -> Result<u32, GenerationError> {
        if let Ok(token) = u32::try_from(self.chosen[row]) {
            return Ok(token);
        }
        // Logits are copied back only if they contain NaN or infinity, for the host's error.
        let logits = self.logits.clone().map(|logits| logits.slice_dim(0, row..row + 1).try_into_data());
        let logits: Vec<f32> = logits.map(host_values).transpose()?.unwrap_or_default();
        Candidates::new(&logits).map(|candidates| candidates.argmax())
    }

    /// The tokens `[rows]` of the last step on the device, for the next pass over the model. Later steps
    /// overwrite the same memory.
    pub fn tokens(&self) -> Tensor<1, Int> {
        self.tokens.clone()
    }

    /// Uploads the random numbers of the next steps, `[STEPS, rows]`.
    fn draw_ahead(&mut self) {
        let mut uniforms = vec![0i32; STEPS * self.samplers.len()];
        for step in uniforms.chunks_exact_mut(self.samplers.len()) {
            for (word, sampler) in step.iter_mut().zip(&mut self.samplers) {
                *word = (sampler.random_bits() >> 32) as u32 as i32;
            }
        }
        self.uniforms = upload(uniforms, &self.tokens.device());
        self.steps = 0;
    }

    #[cfg(feature = "cube")]
    fn launch(&mut self, logits: Tensor<2>) {
        let (tokens, seen) = (self.tokens.clone().into_dispatch(), self.seen.clone().into_dispatch());
        let uniforms = self.uniforms.clone().into_dispatch();
        let first_uniform = self.steps % STEPS * self.samplers.len();
        let logits = logits.into_dispatch();
        let (tokens, seen) =
            <Dispatch as ops::ChooseOps>::choose_tokens(logits, tokens, seen, uniforms, first_uniform, self.rules);
        (self.tokens, self.seen) = (Tensor::from_dispatch(tokens), Tensor::from_dispatch(seen));
    }

    #[cfg(not(feature = "cube"))]
    fn launch(&mut self, _logits: Tensor<2>) {}
}

/// A bit set of the tokens of each prompt, padded to whole words.
fn seen_bits(prompts: &[Vec<u32>], vocab_size: usize) -> Result<Vec<i32>, GenerationError> {
    let words = vocab_size.div_ceil(32);
    let mut bits = vec![0i32; prompts.len() * words];
    for (row, (prompt, bits)) in prompts.iter().zip(bits.chunks_exact_mut(words)).enumerate() {
        for (position, &token) in prompt.iter().enumerate() {
            if token as usize >= vocab_size {
                return Err(GenerationError::TokenOutOfVocabulary { token, row, position, vocab_size });
            }
            bits[token as usize / 32] |= 1 << (token % 32);
        }
    }
    Ok(bits)
}

fn upload(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), (device, DType::I32))
}
