//! Quantising, dequantising and multiplying a weight of the size of a 1.1-billion-parameter Llama's `up_proj`.

use automodel_quant::{
    DenseMatrix, Elements, Precision, matmul, matvec,
    table16::{Blocksize, Matrix4bit, QuantType, Quantized4bit},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::{bf16, f16};
use std::hint::black_box;

const SHAPE: [usize; 2] = [5632, 2048];
const ELEMENTS: usize = SHAPE[0] * SHAPE[1];

fn weight() -> Vec<f32> {
    (0..ELEMENTS as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn quantize(quant_type: QuantType, weight: Elements<'_>) -> Quantized4bit {
    Quantized4bit::quantize(quant_type, Blocksize::default(), SHAPE, weight).expect("the weight is finite")
}

fn encode(c: &mut Criterion) {
    let weight = weight();
    let brain: Vec<bf16> = weight.iter().map(|&value| bf16::from_f32(value)).collect();
    let half: Vec<f16> = weight.iter().map(|&value| f16::from_f32(value)).collect();
    let mut group = c.benchmark_group("quantize");
    for (name, elements, bytes) in [
        ("bfloat16", Elements::BF16(&brain), 2),
        ("float16", Elements::F16(&half), 2),
        ("float32", Elements::F32(&weight), 4),
    ] {
        group.throughput(Throughput::Bytes((ELEMENTS * bytes) as u64));
        for quant_type in [QuantType::Nf4, QuantType::Fp4] {
            group.bench_function(BenchmarkId::new(quant_type.name(), name), |b| {
                b.iter(|| quantize(quant_type, elements))
            });
        }
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let weight = weight();
    let quantized = quantize(QuantType::Nf4, Elements::F32(&weight));
    let (mut single, mut brain) = (vec![0.0f32; ELEMENTS], vec![bf16::ZERO; ELEMENTS]);
    let mut group = c.benchmark_group("dequantize");
    group.throughput(Throughput::Bytes((ELEMENTS * 4) as u64));
    group.bench_function("float32", |b| b.iter(|| quantized.dequantize_into(black_box(&mut single))));
    group.throughput(Throughput::Bytes((ELEMENTS * 2) as u64));
    group.bench_function("bfloat16", |b| b.iter(|| quantized.dequantize_into(black_box(&mut brain))));
    group.finish();
}

fn products(c: &mut Criterion) {
    let weight = weight();
    // Several weights, so that they come from memory and not from cache.
    let weights: Vec<_> = (0..16).map(|_| quantize(QuantType::Nf4, Elements::F32(&weight))).collect();
    let scales: Vec<_> = weights.iter().map(Quantized4bit::scales).collect();
    let mut matrices = weights.iter().zip(&scales).map(|(weight, scales)| Matrix4bit::new(weight, scales)).cycle();
    let mut next = || matrices.next().expect("a cycle does not end").expect("the scales are the weight's own");

    let mut group = c.benchmark_group("matvec");
    group.throughput(Throughput::Bytes(weights[0].byte_len() as u64));
    for rows in [1, 4, 8] {
        let x = vec![0.5; rows * SHAPE[1]];
        for precision in [Precision::Exact, Precision::Fast] {
            let id = BenchmarkId::new(format!("{precision:?}"), rows);
            group.bench_function(id, |b| b.iter(|| matvec(&next(), black_box(&x), precision)));
        }
    }
    group.finish();

    let mut group = c.benchmark_group("matmul");
    for rows in [32, 512] {
        let x = vec![0.5; rows * SHAPE[1]];
        group.throughput(Throughput::Elements((2 * rows * ELEMENTS) as u64)).sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(rows), |b| b.iter(|| matmul(&next(), black_box(&x))));
    }
    group.finish();
}

fn dense_products(c: &mut Criterion) {
    let brain: Vec<bf16> = weight().iter().map(|&value| bf16::from_f32(value)).collect();
    let weights: Vec<_> = (0..8).map(|_| brain.clone()).collect();
    let mut next = weights.iter().map(|weight| DenseMatrix::new(Elements::BF16(weight), SHAPE)).cycle();
    let mut next = || next.next().expect("a cycle does not end").expect("the shape is the weight's");

    let mut group = c.benchmark_group("dense bfloat16");
    for rows in [1, 4, 8] {
        let x = vec![0.5; rows * SHAPE[1]];
        group.throughput(Throughput::Bytes((2 * ELEMENTS) as u64));
        group.bench_function(BenchmarkId::new("few rows", rows), |b| b.iter(|| next().multiply(black_box(&x))));
    }
    let x = vec![0.5; 512 * SHAPE[1]];
    group.throughput(Throughput::Elements((2 * 512 * ELEMENTS) as u64)).sample_size(10);
    group.bench_function(BenchmarkId::new("many rows", 512), |b| b.iter(|| next().multiply(black_box(&x))));
    group.finish();
}

criterion_group!(benches, encode, decode, products, dense_products);
criterion_main!(benches);
