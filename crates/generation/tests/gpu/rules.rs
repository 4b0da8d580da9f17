//! Each rule, and all together, over many random logits: the token is the one that the CPU draws with the same seed.

use super::device;
use automodel_generation::{Candidates, DeviceSampler, Sampler, SamplingOptions};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeSet;

/// Numbers that look random, evenly in 0..1.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    /// About normally distributed.
    fn logit(&mut self, scale: f32) -> f32 {
        ((0..6).map(|_| self.next()).sum::<f32>() - 3.0) * 1.4 * scale
    }
}

/// Kinds of random logits.
#[derive(Clone, Copy, Debug)]
enum Logits {
    /// Spread by this much.
    Spread(f32),
    /// On a coarse grid: many are equal.
    Tied,
    /// Some are forbidden.
    Masked,
}

impl Logits {
    fn row(self, vocab: usize, noise: &mut Noise) -> Vec<f32> {
        let logit = |_| match self {
            Self::Spread(scale) => noise.logit(scale),
            Self::Tied => noise.logit(2.0).round(),
            Self::Masked if noise.next() < 0.5 => f32::NEG_INFINITY,
            Self::Masked => noise.logit(3.0),
        };
        let mut row: Vec<f32> = (0..vocab).map(logit).collect();
        // One at least is allowed.
        row[vocab / 2] = 1.0;
        row
    }
}

/// Tokens that can be drawn, in the order of their ids.
fn kept(options: &SamplingOptions, seen: &BTreeSet<u32>, logits: &[f32]) -> Vec<u32> {
    let mut candidates = Candidates::new(logits).unwrap();
    if options.repetition_penalty != 1.0 {
        candidates.penalise_repetition(seen, options.repetition_penalty);
    }
    if options.do_sample {
        candidates.apply_temperature(options.temperature);
        candidates.keep_top_k(options.top_k);
        candidates.keep_top_p(options.top_p);
        candidates.keep_min_p(options.min_p);
        return candidates.iter().map(|(token, _)| token).collect();
    }
    vec![candidates.argmax()]
}

/// Tokens that were compared, and those that were not the CPU's.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    others: usize,
}

impl Count {
    /// Draws `steps` tokens for `rows` rows on both. Where rounding decides otherwise the token can be drawn on the CPU too, and is the
    /// next one to the CPU's among those.
    fn compare(
        &mut self,
        device: &Device,
        options: &SamplingOptions,
        vocab: usize,
        [rows, steps]: [usize; 2],
        kind: Logits,
    ) {
        let mut noise = Noise(options.seed ^ vocab as u64);
        let prompts: Vec<Vec<u32>> = (0..rows)
            .map(|row| {
                (0..vocab.min(1 + 40 * row)).map(|_| (noise.next() * vocab as f32) as u32 % vocab as u32).collect()
            })
            .collect();
        let mut seen: Vec<BTreeSet<u32>> = prompts.iter().map(|prompt| prompt.iter().copied().collect()).collect();
        let mut there = DeviceSampler::new(options, &prompts, vocab, device).unwrap();
        let mut here: Vec<Sampler> = (0..rows as u64).map(|row| Sampler::new(options, row).unwrap()).collect();
        for _ in 0..steps {
            let logits: Vec<Vec<f32>> = (0..rows).map(|_| kind.row(vocab, &mut noise)).collect();
            let data = TensorData::new(logits.concat(), [rows, vocab]);
            there.choose(Tensor::<2>::from_data(data, device)).unwrap();
            for (row, ((logits, seen), sampler)) in logits.iter().zip(&mut seen).zip(&mut here).enumerate() {
                sampler.observe(&seen.iter().copied().collect::<Vec<_>>());
                let (expected, found) = (sampler.next_token(logits).unwrap(), there.token(row).unwrap());
                self.all += 1;
                if expected != found {
                    let kept = kept(options, seen, logits);
                    let place = |token: u32| kept.iter().position(|&kept| kept == token);
                    let what = format!("{found} for {expected} of {}: {options:?} {kind:?} {vocab}", kept.len());
                    let (expected, found) = (place(expected).expect("the CPU's own"), place(found).expect(&what));
                    assert_eq!(expected.abs_diff(found), 1, "{what}");
                    eprintln!("rounding: {what}");
                    self.others += 1;
                }
                seen.insert(there.token(row).unwrap());
            }
        }
    }

    /// At least 99.9 % are the CPU's.
    fn check(&self) {
        assert!(self.all > 0 && self.others * 1000 <= self.all, "{self:?}");
        eprintln!("{self:?}");
    }
}

fn sampled() -> SamplingOptions {
    SamplingOptions { do_sample: true, top_k: 0, ..SamplingOptions::default() }
}

/// Each rule alone, and all of them.
fn all_rules() -> Vec<SamplingOptions> {
    vec![
        SamplingOptions::default(),
        SamplingOptions { repetition_penalty: 1.3, ..SamplingOptions::default() },
        sampled(),
        SamplingOptions { repetition_penalty: 0.7, ..sampled() },
        SamplingOptions { temperature: 0.6, ..sampled() },
        SamplingOptions { temperature: 1.7, ..sampled() },
        SamplingOptions { top_k: 1, ..sampled() },
        SamplingOptions { top_k: 3, ..sampled() },
        SamplingOptions { top_k: 50, ..sampled() },
        SamplingOptions { top_k: 128, ..sampled() },
        SamplingOptions { top_k: 400, ..sampled() },
        SamplingOptions { top_p: 0.0, ..sampled() },
        SamplingOptions { top_p: 0.5, ..sampled() },
        SamplingOptions { top_p: 0.95, ..sampled() },
        SamplingOptions { min_p: 0.05, ..sampled() },
        SamplingOptions { min_p: 1.0, ..sampled() },
        SamplingOptions { top_k: 40, top_p: 0.8, ..sampled() },
        SamplingOptions { top_k: 500, top_p: 0.8, min_p: 0.01, ..sampled() },
        SamplingOptions { temperature: 0.7, top_k: 20, top_p: 0.95, min_p: 0.02, repetition_penalty: 1.1, ..sampled() },
    ]
}

fn run(vocab: usize, batch: [usize; 2], kinds: &[Logits]) {
    let Some(device) = device() else { return };
    let mut count = Count::default();
    for (seed, options) in (0..).zip(all_rules()) {
        for (kind, &logits) in (0u64..).zip(kinds) {
            let options = SamplingOptions { seed: 100 * kind + seed, ..options.clone() };
            count.compare(&device, &options, vocab, batch, logits);
        }
    }
    count.check();
}

#[test]
fn tokens_of_few_logits_are_those_of_the_cpu() {
    run(7, [24, 12], &[Logits::Spread(1.5), Logits::Tied, Logits::Masked]);
}

#[test]
fn tokens_of_a_thousand_logits_are_those_of_the_cpu() {
    run(1000, [8, 5], &[Logits::Spread(0.5), Logits::Spread(3.0), Logits::Tied, Logits::Masked]);
}

#[test]
fn tokens_of_many_logits_are_those_of_the_cpu() {
    run(128_256, [3, 1], &[Logits::Spread(1.0), Logits::Spread(4.0), Logits::Tied]);
}

#[test]
fn compiles_the_kernel_for_every_rule() {
    let Some(device) = device() else { return };
    for options in all_rules() {
        let mut sampler = DeviceSampler::new(&options, &[vec![1]], 1000, &device).unwrap();
        // A kernel that does not compile shows when its result is read.
        let outcome = sampler.choose(Tensor::<2>::zeros([1, 1000], &device));
        assert!(outcome.is_ok(), "{options:?}: {outcome:?}");
    }
}

/// More seeds for what text is mostly generated with, and for a draw among all tokens, whose shares are the smallest.
#[test]
fn many_draws_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let usual = SamplingOptions { temperature: 0.8, top_k: 50, top_p: 0.9, seed: 5, ..sampled() };
    let mut count = Count::default();
    for kind in [Logits::Spread(0.7), Logits::Spread(2.0)] {
        count.compare(&device, &usual, 1000, [32, 32], kind);
        count.compare(&device, &sampled(), 1000, [32, 32], kind);
        count.compare(&device, &sampled(), 128_256, [8, 8], kind);
    }
    count.check();
}

/// More ties than there is room to collect are sampled from the whole row.
#[test]
fn ties_beyond_all_room_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let mut count = Count::default();
    for (seed, (top_k, top_p)) in (0..).zip([(2, 1.0), (50, 0.5), (0, 0.7), (0, 0.3), (300, 0.9)]) {
        let options = SamplingOptions { top_k, top_p, seed, ..sampled() };
        // All equal, and all but two.
        for scale in [0.0, 1e-3] {
            count.compare(&device, &options, 3000, [4, 8], Logits::Spread(scale));
        }
        count.compare(&device, &options, 10, [8, 40], Logits::Spread(0.0));
    }
    count.check();
}
