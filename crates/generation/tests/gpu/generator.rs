//! Whole generations: the loop on the device gives the tokens of the loop on the CPU.

use super::{device, rules::Noise};
use automodel_generation::{GenerationError, GenerationOptions, GenerationReport, Generator};
use automodel_models::{
    CacheOptions, CausalLm, DecodeCache, LogitsFor, Model, ModelError, TokenBatch, parameters::ParameterTensor,
};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

const VOCAB: usize = 600;
/// The token with damaged logits.
const DAMAGED: usize = 77;

/// Logits of the next token depend on the last one alone: a table `[VOCAB, VOCAB]`, so that devices compute the same.
#[derive(Debug)]
struct Bigram {
    table: Tensor<2>,
    /// Whether `forward_tokens` reads the tokens on the device.
    on_device: bool,
    /// Passes over tokens of the host.
    passes: AtomicUsize,
    /// Passes over tokens of the device.
    device_passes: AtomicUsize,
}

impl Bigram {
    fn new(device: &Device, on_device: bool) -> Self {
        let mut noise = Noise(3);
        let mut table: Vec<f32> = (0..VOCAB * VOCAB).map(|_| noise.next() * 8.0).collect();
        // No token is followed by the damaged one.
        table.chunks_exact_mut(VOCAB).for_each(|row| row[DAMAGED] = f32::NEG_INFINITY);
        table[DAMAGED * VOCAB] = f32::NAN;
        let table = Tensor::from_data(TensorData::new(table, [VOCAB, VOCAB]), device);
        Self { table, on_device, passes: AtomicUsize::new(0), device_passes: AtomicUsize::new(0) }
    }

    fn logits(&self, ids: Tensor<1, Int>, [rows, length]: [usize; 2]) -> Tensor<3> {
        self.table.clone().select(0, ids).reshape([rows, length, VOCAB])
    }
}

impl Model for Bigram {
    fn device(&self) -> Device {
        self.table.device()
    }

    fn visit_parameters(&self, _: &mut dyn FnMut(&str, &[usize])) {}

    fn assign_parameters(&mut self, _: &mut dyn FnMut(&str) -> Option<ParameterTensor>) -> Result<(), ModelError> {
        Ok(())
    }

    fn read_parameters(&self, _: &mut dyn FnMut(&str, ParameterTensor)) {}
}

impl CausalLm for Bigram {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn max_position_embeddings(&self) -> Option<usize> {
        None
    }

    fn new_cache(&self, options: &CacheOptions) -> DecodeCache {
        DecodeCache::new(options.batch_size, Vec::new())
    }

    fn forward(&self, batch: &TokenBatch, logits: LogitsFor, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        assert_eq!(logits, LogitsFor::Last);
        self.passes.fetch_add(1, Ordering::Relaxed);
        cache.advance(batch)?;
        let shape = [batch.batch_size(), batch.length()];
        let ids: Vec<i64> = batch.ids().iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::from_data(TensorData::new(ids, [shape[0] * shape[1]]), &self.device());
        Ok(self.logits(ids, shape).slice_dim(1, shape[1] - 1..shape[1]))
    }

    fn forward_tokens(&self, tokens: Tensor<1, Int>, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        self.device_passes.fetch_add(1, Ordering::Relaxed);
        if !self.on_device {
            // The default of the trait.
            return self.forward(&TokenBatch::read(tokens, VOCAB)?, LogitsFor::Last, cache);
        }
        let rows = tokens.dims()[0];
        Ok(self.logits(tokens, [rows, 1]))
    }
}

fn generate(
    model: &Bigram,
    prompts: &[Vec<u32>],
    options: &GenerationOptions,
) -> Result<GenerationReport, GenerationError> {
    let prompts: Vec<_> = prompts.iter().cloned().map(Into::into).collect();
    Generator::new(model).generate(&prompts, options, &mut |_| ControlFlow::Continue(()))
}

fn options() -> Vec<GenerationOptions> {
    let plain = GenerationOptions { max_new_tokens: Some(70), seed: Some(4), ..GenerationOptions::default() };
    let drawn = GenerationOptions { do_sample: Some(true), ..plain.clone() };
    vec![
        plain.clone(),
        GenerationOptions { repetition_penalty: Some(1.4), ..plain },
        drawn.clone(),
        GenerationOptions { top_p: Some(0.9), top_k: Some(0), repetition_penalty: Some(1.2), ..drawn.clone() },
        // Rows end at different times.
        GenerationOptions { eos_token_ids: Some((0..30).collect()), ..drawn },
    ]
}

#[test]
fn tokens_are_those_of_the_loop_on_the_cpu() {
    let Some(device) = device() else { return };
    let prompts = [vec![5, 9, 14], vec![300], vec![1, 2, 3, 4, 599]];
    let here = Bigram::new(&Device::flex(), true);
    for options in options() {
        let expected = generate(&here, &prompts, &options).unwrap();
        for on_device in [true, false] {
            let there = Bigram::new(&device, on_device);
            let found = generate(&there, &prompts, &options).unwrap();
            assert_eq!(found.texts, expected.texts, "{options:?}");
            let device_passes = there.device_passes.load(Ordering::Relaxed);
            // Finished rows keep running; their output is discarded.
            let longest = expected.texts.iter().map(|text| text.token_ids.len()).max().unwrap();
            assert_eq!(device_passes, longest - 1, "{options:?}");
            if on_device {
                assert_eq!(there.passes.load(Ordering::Relaxed), 1, "the prompts");
            }
        }
    }
    assert_eq!(here.device_passes.load(Ordering::Relaxed), 0);
}

#[test]
fn damaged_logits_are_an_error() {
    let Some(device) = device() else { return };
    let options = &options()[0];
    let here = generate(&Bigram::new(&Device::flex(), true), &[vec![DAMAGED as u32]], options).unwrap_err();
    let there = generate(&Bigram::new(&device, true), &[vec![DAMAGED as u32]], options).unwrap_err();
    assert!(matches!(there, GenerationError::NonFiniteLogits { token: 0, .. }), "{there}");
    assert_eq!(there.to_string(), here.to_string());
}
