//! Prompts that are run in chunks, against the same prompts run whole.

use crate::support::{Reference, check_all, checkpoint, checkpoints, distance};
use automodel::generation::{GenerationOptions, Prompt};
use automodel::models::{CacheOptions, LogitsFor, TokenBatch};
use automodel::{AutoModel, AutoModelForCausalLM, Dtype};
use std::ops::ControlFlow;

/// Shorter and longer than the windows of the fixtures (4 to 16), and longer than their prompts.
const CHUNKS: [usize; 5] = [1, 3, 7, 20, 1000];

fn for_every_model(check: impl Fn(&AutoModel, &Reference) -> Result<(), String> + Sync) {
    check_all(&checkpoints(), |name| {
        let directory = checkpoint(name);
        let model = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).dtype(Dtype::Float32);
        check(&model.load().unwrap(), &Reference::read(name))
    });
}

/// The prompt of the fixture, and shorter ones down to a single token, so that rows begin in different chunks.
fn uneven(reference: &Reference) -> Vec<Vec<u32>> {
    let whole = &reference.tokens;
    let backwards: Vec<u32> = whole.iter().rev().copied().collect();
    vec![
        backwards[..whole.len() - 2].to_vec(),
        whole.clone(),
        whole[..1].to_vec(),
        backwards[..whole.len() / 2].to_vec(),
    ]
}

fn greedy(model: &AutoModel, prompts: &[Vec<u32>], new: usize, prefill_chunk: Option<usize>) -> Vec<Vec<u32>> {
    let options = GenerationOptions {
        max_new_tokens: Some(new),
        do_sample: Some(false),
        ignore_eos: true,
        // The dynamic fixture starts beyond its positions.
        allow_long_sequences: true,
        prefill_chunk,
        ..GenerationOptions::default()
    };
    let prompts: Vec<Prompt> = prompts.iter().cloned().map(Prompt::Tokens).collect();
    let report = model.generate(&prompts, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    report.texts.into_iter().map(|text| text.token_ids).collect()
}

#[test]
fn greedy_tokens_are_those_of_transformers_in_any_chunks() {
    for_every_model(|model, reference| {
        for chunk in CHUNKS {
            let found = greedy(model, std::slice::from_ref(&reference.tokens), reference.greedy.len(), Some(chunk));
            if found[0] != reference.greedy {
                return Err(format!("chunks of {chunk}: {:?} instead of {:?}", found[0], reference.greedy));
            }
        }
        Ok(())
    });
}

#[test]
fn a_batch_of_uneven_prompts_gives_the_same_tokens_in_any_chunks() {
    for_every_model(|model, reference| {
        let prompts = uneven(reference);
        let whole = greedy(model, &prompts, 5, None);
        for chunk in CHUNKS {
            let found = greedy(model, &prompts, 5, Some(chunk));
            if found != whole {
                return Err(format!("chunks of {chunk}: {found:?} instead of {whole:?}"));
            }
        }
        Ok(())
    });
}

/// The logits of the last position and of one token after it.
fn logits(model: &AutoModel, prompts: &[Vec<u32>], chunk: usize) -> Vec<f32> {
    let (model, longest) = (model.model(), prompts.iter().map(Vec::len).max().unwrap());
    let mut cache = model.new_cache(&CacheOptions { batch_size: prompts.len(), capacity: None });
    cache.announce(longest);
    let mut found = Vec::new();
    for start in (0..longest).step_by(chunk) {
        let end = (start + chunk).min(longest);
        let batch = TokenBatch::columns(prompts, start..end, model.vocab_size()).unwrap();
        if end < longest {
            model.prefill(&batch, &mut cache).unwrap();
        } else {
            found = model.forward(&batch, LogitsFor::Last, &mut cache).unwrap().into_data().try_into_vec().unwrap();
        }
    }
    let next = TokenBatch::new(&vec![[3u32]; prompts.len()], model.vocab_size()).unwrap();
    let after = model.forward(&next, LogitsFor::Last, &mut cache).unwrap();
    found.extend(after.into_data().try_into_vec::<f32>().unwrap());
    found
}

#[test]
fn logits_after_chunks_are_those_after_a_whole_run() {
    for_every_model(|model, reference| {
        for prompts in [vec![reference.tokens.clone()], uneven(reference)] {
            let whole = logits(model, &prompts, 1000);
            for chunk in CHUNKS {
                let apart = distance(&whole, &logits(model, &prompts, chunk));
                // Written so that NaN fails.
                if apart.is_nan() || apart > 1e-5 {
                    return Err(format!("chunks of {chunk}, {} rows: {apart:.1e} apart", prompts.len()));
                }
            }
        }
        Ok(())
    });
}
