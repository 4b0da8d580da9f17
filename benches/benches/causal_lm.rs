//! Load, prefill and decode of one checkpoint: the demo, or the directory in `AUTOMODEL_BENCH_MODEL`.

use automodel::AutoModelForCausalLM;
use automodel::models::{CacheOptions, LogitsFor, TokenBatch};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Positions of a prompt, unless the model has fewer.
const PROMPT_TOKENS: usize = 512;

fn name() -> String {
    std::env::var("AUTOMODEL_BENCH_MODEL").unwrap_or_else(|_| automodel::DEMO.to_owned())
}

fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    group.bench_function("load", |bencher| {
        bencher.iter(|| AutoModelForCausalLM::from_pretrained(name()).load().expect("the checkpoint loads"));
    });
    group.finish();
}

fn run(criterion: &mut Criterion) {
    let loaded = AutoModelForCausalLM::from_pretrained(name()).load().expect("the checkpoint loads");
    let model = loaded.model();
    let vocab_size = model.vocab_size();
    let length = model.max_position_embeddings().map_or(PROMPT_TOKENS, |limit| PROMPT_TOKENS.min(limit / 2));
    let tokens: Vec<u32> = (0..length).map(|index| (index * 7919 % vocab_size) as u32).collect();
    let prompt = TokenBatch::new(&[tokens], vocab_size).expect("tokens are below the vocabulary");
    let next = TokenBatch::new(&[[1]], vocab_size).expect("one token");
    let prefilled = || {
        let mut cache = model.new_cache(&CacheOptions::default());
        model.forward(&prompt, LogitsFor::Last, &mut cache).expect("the prompt fits");
        cache
    };

    let mut group = criterion.benchmark_group("run");
    group.sample_size(10);
    group.throughput(Throughput::Elements(length as u64));
    group.bench_function("prefill", |bencher| bencher.iter(prefilled));
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| {
        bencher.iter_batched(
            prefilled,
            |mut cache| model.forward(&next, LogitsFor::Last, &mut cache).expect("one more fits").into_data(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, load, run);
criterion_main!(benches);
