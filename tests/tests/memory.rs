//! Memory of prompts and of long generations, by the allocator. The only test of its process, so that nothing else is counted.

mod counting;

use automodel::attention::SdpaBackend;
use automodel::config::{Overrides, RawConfig};
use automodel::generation::{GenerationOptions, Generator, Prompt};
use automodel::models::{Decoder, ModelOptions, initialize_random};
use automodel::registry::{Registry, ResolveOptions};
use burn::tensor::{Device, FloatDType};
use counting::{HIGHEST, NOW};
use std::{ops::ControlFlow, sync::atomic::Ordering::Relaxed};

const KIB: usize = 1 << 10;
const HIDDEN: usize = 64;
const LAYERS: usize = 4;
/// Positions in a sliding layer, every second one.
const WINDOW: usize = 48;

/// A model whose activations for a prompt are much larger than its cache: one key-value head, wide MLPs.
fn model() -> Decoder {
    let config = format!(
        r#"{{"model_type": "qwen2", "vocab_size": 300, "hidden_size": {HIDDEN}, "intermediate_size": 1024,
            "num_hidden_layers": {LAYERS}, "num_attention_heads": 4, "num_key_value_heads": 1,
            "max_position_embeddings": 8192, "use_sliding_window": true, "sliding_window": {WINDOW},
            "max_window_layers": {}, "tie_word_embeddings": true}}"#,
        LAYERS / 2
    );
    let (raw, registry) = (RawConfig::from_str(&config).unwrap(), Registry::builtin());
    let config = raw.clone().resolve(registry.class_defaults(&raw).unwrap(), &Overrides::new()).unwrap();
    let resolution = registry.resolve(&config, &ResolveOptions::default()).unwrap();
    let spec = registry.lower(&config, &resolution).unwrap().spec.unwrap();
    let options = ModelOptions::new(SdpaBackend::EfficientAttention);
    let mut model = Decoder::new(&spec, options, &Device::flex()).unwrap();
    initialize_random(&mut model, 3, 0.05, FloatDType::F32, 1.0, &[]).unwrap();
    model
}

/// Bytes of keys and values of `positions` in the layers that keep all of them.
fn cache_bytes(positions: usize) -> usize {
    LAYERS / 2 * 2 * (HIDDEN / 4) * 4 * positions
}

fn prompt(tokens: usize) -> Prompt {
    Prompt::Tokens((0..tokens as u32).map(|index| index * 7 % 300).collect())
}

fn options(max_new_tokens: usize, prefill_chunk: Option<usize>) -> GenerationOptions {
    GenerationOptions {
        max_new_tokens: Some(max_new_tokens),
        do_sample: Some(false),
        ignore_eos: true,
        preallocate_cache: true,
        prefill_chunk,
        ..GenerationOptions::default()
    }
}

/// The peak of live bytes from the prompt to the first token, beyond the bytes live before.
fn peak_of_prompt(model: &Decoder, tokens: usize, chunk: Option<usize>) -> usize {
    let prompt = [prompt(tokens)];
    let before = NOW.load(Relaxed);
    HIGHEST.store(before, Relaxed);
    Generator::new(model).generate(&prompt, &options(1, chunk), &mut |_| ControlFlow::Continue(())).unwrap();
    HIGHEST.load(Relaxed) - before
}

#[test]
fn memory_is_bounded() {
    let model = model();
    peak_of_prompt(&model, 64, Some(64));
    chunks_bound_the_memory_of_prompts(&model);
    long_generations_stay_flat(&model);
}

fn chunks_bound_the_memory_of_prompts(model: &Decoder) {
    let [short, long] = [512, 2048].map(|tokens| peak_of_prompt(model, tokens, Some(128)));
    // Besides the cache a position has its token twice: in the prompt as it was given and in a copy of it.
    let allowed = cache_bytes(2048 - 512) + (2048 - 512) * 8;
    let grown = long.saturating_sub(short);
    assert!(
        grown <= allowed + 64 * KIB,
        "four times the prompt took {grown} bytes more, {allowed} of them for the cache"
    );
    // For comparison: without chunks the activations grow with the prompt.
    let [short_whole, long_whole] = [512, 2048].map(|tokens| peak_of_prompt(model, tokens, None));
    let grown_whole = long_whole - short_whole;
    assert!(
        grown_whole > 8 * (allowed + 64 * KIB),
        "only {grown_whole} bytes more in one pass: the test shows nothing"
    );
}

fn long_generations_stay_flat(model: &Decoder) {
    const WARM_UP: usize = 2 * WINDOW;
    const NEW: usize = 400;
    // Live bytes after each token, and the peak before it.
    let mut seen: Vec<(usize, usize)> = Vec::with_capacity(WARM_UP + NEW);
    let prompt = [prompt(100)];
    let mut each = |_: automodel::generation::GenerationEvent<'_>| {
        seen.push((NOW.load(Relaxed), HIGHEST.load(Relaxed)));
        HIGHEST.store(NOW.load(Relaxed), Relaxed);
        ControlFlow::Continue(())
    };
    let report = Generator::new(model).generate(&prompt, &options(WARM_UP + NEW, Some(64)), &mut each).unwrap();
    assert_eq!(report.texts[0].token_ids.len(), WARM_UP + NEW);
    let (warm, later) = seen[1..].split_at(WARM_UP);
    let most =
        |samples: &[(usize, usize)], which: fn(&(usize, usize)) -> usize| samples.iter().map(which).max().unwrap();
    // The token ids that were generated are all that is kept, with room for as many again.
    let noise = 16 * KIB;
    let (live, live_later) = (most(warm, |sample| sample.0), most(later, |sample| sample.0));
    assert!(live_later <= live + noise, "{} bytes more are live after {NEW} tokens", live_later - live);
    let (peak, peak_later) = (most(warm, |sample| sample.1), most(later, |sample| sample.1));
    assert!(peak_later <= peak + noise, "the peak of a step rose by {} bytes in {NEW} tokens", peak_later - peak);
}
