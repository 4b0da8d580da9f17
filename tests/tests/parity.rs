//! Every checkpoint fixture against transformers, with each attention backend, cached and uncached, alone and in batches.

use crate::support::{Reference, check_all, checkpoint, checkpoints, distance};
use automodel::generation::GenerationOptions;
use automodel::models::{CacheOptions, DecodeCache, LogitsFor, TokenBatch};
use automodel::registry::spec::RopeScaling;
use automodel::{AutoModel, AutoModelForCausalLM, Dtype};
use burn::tensor::{Int, Tensor};
use std::fmt;
use std::ops::ControlFlow;

/// Largest difference from transformers, in standard deviations of its logits.
const PROMISED: f64 = 1e-3;
/// The difference measured, with some room for other processors.
const REACHED: f64 = 1e-4;

const BACKENDS: [&str; 2] = ["math", "efficient_attention"];

struct Case {
    checkpoint: String,
    backend: &'static str,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.checkpoint, self.backend)
    }
}

impl Case {
    fn load(&self) -> AutoModel {
        let directory = checkpoint(&self.checkpoint);
        let model = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap());
        let model = model.dtype(Dtype::Float32).attention([self.backend]).load().unwrap();
        assert_eq!(model.prepared().attention.backend.to_string(), self.backend);
        model
    }
}

/// Runs `check` for every fixture with every backend.
fn for_every_model(check: impl Fn(&AutoModel, &Reference) -> Result<(), String> + Sync) {
    let names = checkpoints();
    assert!(names.len() >= 70, "only {} checkpoints found", names.len());
    let backends = |name: &String| BACKENDS.map(|backend| Case { checkpoint: name.clone(), backend });
    let cases: Vec<Case> = names.iter().flat_map(backends).collect();
    check_all(&cases, |case| check(&case.load(), &Reference::read(&case.checkpoint)));
}

#[test]
fn logits_are_those_of_transformers() {
    for_every_model(|model, reference| {
        let logits = logits(model, &reference.tokens);
        near("promise", PROMISED, &reference.logits, &logits)?;
        near("habit", REACHED, &reference.logits, &logits)
    });
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for_every_model(|model, reference| {
        let plain = GenerationOptions {
            max_new_tokens: Some(reference.greedy.len()),
            do_sample: Some(false),
            ignore_eos: true,
            // The dynamic fixture starts beyond its positions.
            allow_long_sequences: true,
            ..GenerationOptions::default()
        };
        let mut ways = vec![
            ("plain", plain.clone()),
            ("preallocated cache", GenerationOptions { preallocate_cache: true, ..plain.clone() }),
        ];
        if Steady::of(model, &reference.tokens) == Steady::whole(&reference.tokens) {
            ways.push(("prefill in chunks", GenerationOptions { prefill_chunk: Some(3), ..plain }));
        }
        for (way, options) in ways {
            let prompt = reference.tokens.clone().into();
            let report = model.generate(&[prompt], &options, &mut |_| ControlFlow::Continue(())).unwrap();
            let found = &report.texts[0].token_ids;
            if *found != reference.greedy {
                return Err(format!("{way}: {found:?} instead of {:?}", reference.greedy));
            }
        }
        Ok(())
    });
}

#[test]
fn cached_decoding_equals_uncached() {
    for_every_model(|model, reference| {
        let Steady { tokens, first } = Steady::of(model, &reference.tokens);
        let expected = logits(model, tokens);
        for step in [1, 3] {
            let found = in_steps(model, tokens, first, step, None);
            near(&format!("steps of {step}"), REACHED, &expected, &found)?;
        }
        Ok(())
    });
}

/// Tokens that a device has chosen are run from its memory.
#[test]
fn tokens_on_the_device_give_the_logits_of_those_on_the_host() {
    for_every_model(|model, reference| {
        let Steady { tokens, first } = Steady::of(model, &reference.tokens);
        let (start, rest) = tokens.split_at(first.max(2));
        // The second row is padded.
        let rows = [start, &start[start.len() / 2..]];
        let [mut here, mut there] = [0, 1].map(|_| cache_of(model, rows.len(), None));
        assert_eq!(forward(model, &rows, &mut here), forward(model, &rows, &mut there));
        for &token in rest.iter().take(3) {
            let expected = forward(model, &[&[token], &[token]], &mut here);
            let ids = Tensor::<1, Int>::from_ints([token as i32; 2], &model.model().device());
            let found = model.model().forward_tokens(ids, &mut there).unwrap();
            assert_eq!(found.dims(), [2, 1, model.model().vocab_size()]);
            assert_eq!(found.into_data().try_into_vec::<f32>().unwrap(), expected);
        }
        assert_eq!((here.length(), here.padding()), (there.length(), there.padding()));
        Ok(())
    });
}

#[test]
fn a_preallocated_cache_equals_a_growing_one() {
    for_every_model(|model, reference| {
        let Steady { tokens, first } = Steady::of(model, &reference.tokens);
        let growing = in_steps(model, tokens, first, 2, None);
        for capacity in [tokens.len(), tokens.len() + 7] {
            let preallocated = in_steps(model, tokens, first, 2, Some(capacity));
            near(&format!("capacity {capacity}"), 1e-6, &growing, &preallocated)?;
        }
        Ok(())
    });
}

#[test]
fn a_padded_row_equals_the_row_alone() {
    for_every_model(|model, reference| {
        let Steady { tokens, first } = Steady::of(model, &reference.tokens);
        // Two prompts without a common end, one token to go on with each.
        let (prompt, next) = tokens.split_at(tokens.len() - 1);
        let short: Vec<u32> = prompt.iter().rev().copied().take(prompt.len() - 5).collect();
        assert!(short.len() >= first, "the short prompt has other frequencies alone");
        let rows = [prompt, short.as_slice()];

        let mut cache = cache_of(model, rows.len(), None);
        let batched = [forward(model, &rows, &mut cache), forward(model, &[next, next], &mut cache)];
        let vocab_size = model.model().vocab_size();
        for (index, row) in rows.iter().enumerate() {
            let mut alone = cache_of(model, 1, None);
            let padding = prompt.len() - row.len();
            let of_row = |logits: &[f32], length: usize, skipped: usize| {
                logits[(index * length + skipped) * vocab_size..(index + 1) * length * vocab_size].to_vec()
            };
            let expected = forward(model, &[row], &mut alone);
            near(&format!("prompt {index}"), REACHED, &expected, &of_row(&batched[0], prompt.len(), padding))?;
            let expected = forward(model, &[next], &mut alone);
            near(&format!("token after prompt {index}"), REACHED, &expected, &of_row(&batched[1], 1, 0))?;
        }
        Ok(())
    });
}

/// Tokens over which rotary frequencies do not change. Dynamic scaling changes them with each token beyond its length, and
/// LongRoPE at its length: keys that are cached by then keep the old ones, in transformers too, so that cached decoding
/// cannot equal a whole pass across that point.
#[derive(PartialEq)]
struct Steady<'t> {
    tokens: &'t [u32],
    /// Tokens of the first pass, at least.
    first: usize,
}

impl<'t> Steady<'t> {
    fn whole(tokens: &'t [u32]) -> Self {
        Self { tokens, first: 1 }
    }

    fn of(model: &AutoModel, tokens: &'t [u32]) -> Self {
        let spec = model.prepared().lowered.spec.as_ref().unwrap();
        let attentions = spec.backbone.attentions();
        let mut scalings = attentions.filter_map(|(_, attention)| Some(&attention.rope.as_ref()?.scaling));
        match scalings.next() {
            Some(RopeScaling::Dynamic { original_max_position_embeddings: limit, .. }) => {
                Self::whole(&tokens[..tokens.len().min(*limit)])
            }
            Some(RopeScaling::LongRope(rope)) if tokens.len() > rope.original_max_position_embeddings => {
                Self { tokens, first: rope.original_max_position_embeddings + 1 }
            }
            _ => Self::whole(tokens),
        }
    }
}

fn near(what: &str, tolerance: f64, expected: &[f32], found: &[f32]) -> Result<(), String> {
    let distance = distance(expected, found);
    // Written so that NaN fails.
    if distance <= tolerance { Ok(()) } else { Err(format!("{what}: {distance:.1e} standard deviations apart")) }
}

fn logits(model: &AutoModel, tokens: &[u32]) -> Vec<f32> {
    model.logits(tokens).unwrap().into_data().try_into_vec().unwrap()
}

fn cache_of(model: &AutoModel, batch_size: usize, capacity: Option<usize>) -> DecodeCache {
    model.model().new_cache(&CacheOptions { batch_size, capacity })
}

fn forward(model: &AutoModel, rows: &[&[u32]], cache: &mut DecodeCache) -> Vec<f32> {
    let batch = TokenBatch::new(rows, model.model().vocab_size()).unwrap();
    let logits = model.model().forward(&batch, LogitsFor::All, cache).unwrap();
    logits.into_data().try_into_vec().unwrap()
}

/// The logits of `tokens`, the first at least `first` of them in one pass and then `step` at a time.
fn in_steps(model: &AutoModel, tokens: &[u32], first: usize, step: usize, capacity: Option<usize>) -> Vec<f32> {
    let mut cache = cache_of(model, 1, capacity);
    let (start, rest) = tokens.split_at(first.max(step));
    let pieces = std::iter::once(start).chain(rest.chunks(step));
    pieces.flat_map(|piece| forward(model, &[piece], &mut cache)).collect()
}

/// LongRoPE takes other frequencies beyond its length. transformers then computes the whole sequence again
/// (`Phi3ForCausalLM.prepare_inputs_for_generation`); these are the tokens that it generates.
#[test]
fn generation_across_the_length_of_longrope_is_that_of_transformers() {
    let prompt = [83, 78, 64, 4, 82, 14, 94, 10, 92, 13, 55, 44, 11, 7, 47, 44, 23, 13, 86, 5];
    let expected = [42, 77, 71, 42, 42, 42, 77, 77, 77, 11, 35, 19, 19, 19, 19, 19];
    let model = Case { checkpoint: "phi3-longrope".to_owned(), backend: BACKENDS[1] }.load();
    for chunk in [None, Some(3)] {
        let options = GenerationOptions {
            max_new_tokens: Some(expected.len()),
            do_sample: Some(false),
            ignore_eos: true,
            prefill_chunk: chunk,
            ..GenerationOptions::default()
        };
        let report = model.generate(&[prompt.to_vec().into()], &options, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.texts[0].token_ids, expected, "prefill in chunks of {chunk:?}");
    }
}
