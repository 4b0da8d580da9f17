//! Products against dequantised weights multiplied in double precision.

use half::{bf16, f16};
use proptest::prelude::*;

use super::super::Blocksize;
use super::*;
use crate::{DenseMatrix, Elements, matmul, matvec, multiply};

struct Case {
    weight: Quantized4bit,
    x: Vec<f32>,
    m: usize,
}

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // Activations have a few large elements.
    (0..len).map(|i| next() * if i % 97 == 5 { 30.0 } else { 1.0 }).collect()
}

fn case(quant_type: QuantType, blocksize: usize, shape: [usize; 2], m: usize) -> Case {
    let weight = random(shape[0] * shape[1], 1 + shape[1] as u64);
    let blocksize = Blocksize::new(blocksize).unwrap();
    let weight = Quantized4bit::quantize(quant_type, blocksize, shape, Elements::F32(&weight)).unwrap();
    Case { weight, x: random(m * shape[1], 7), m }
}

/// The greatest error of a product, relative to the norms of the row of weights and of the activations.
fn error(case: &Case, product: &[f32]) -> f64 {
    let [rows, columns] = case.weight.shape();
    let weight: Vec<f32> = case.weight.dequantize();
    assert_eq!(product.len(), case.m * rows);
    let norm = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let mut worst = 0.0f64;
    for (x, product) in case.x.chunks_exact(columns).zip(product.chunks_exact(rows)) {
        for (weight, &product) in weight.chunks_exact(columns).zip(product) {
            let exact: f64 = weight.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            worst = worst.max((f64::from(product) - exact).abs() / (norm(weight) * norm(x)).max(1e-30));
        }
    }
    worst
}

fn check(case: &Case) {
    let scales = case.weight.scales();
    for isa in Isa::available() {
        let matrix = Matrix4bit::new(&case.weight, &scales).unwrap().on(isa);
        let (shape, m) = (case.weight.shape(), case.m);
        let exact = error(case, &matvec(&matrix, &case.x, Precision::Exact).unwrap());
        assert!(exact < 2e-6, "exact {isa:?} {shape:?} {m}: {exact}");
        let fast = error(case, &matvec(&matrix, &case.x, Precision::Fast).unwrap());
        assert!(fast < 2e-4, "fast {isa:?} {shape:?} {m}: {fast}");
        let tiles = error(case, &matmul(&matrix, &case.x).unwrap());
        assert!(tiles < 2e-6, "matmul {isa:?} {shape:?} {m}: {tiles}");
    }
}

#[test]
fn whole_blocks_blocks_across_rows_and_many_rows_of_activations() {
    for quant_type in [QuantType::Nf4, QuantType::Fp4] {
        for (blocksize, shape) in [(64, [70, 256]), (128, [9, 96]), (4096, [5, 1024]), (32, [33, 544]), (256, [3, 32])]
        {
            for m in [1, 2, 3, 4, 5, 8, 17, 33] {
                check(&case(quant_type, blocksize, shape, m));
            }
        }
    }
}

#[test]
fn the_usual_error_of_fast_products() {
    let case = case(QuantType::Nf4, 64, [64, 2048], 1);
    let scales = case.weight.scales();
    let matrix = Matrix4bit::new(&case.weight, &scales).unwrap();
    let fast = error(&case, &matvec(&matrix, &case.x, Precision::Fast).unwrap());
    assert!(fast < 1.6e-5, "{fast}");
}

#[test]
fn tasks_on_several_threads_make_the_same_rows() {
    check(&case(QuantType::Nf4, 64, [2100, 128], 1));
    check(&case(QuantType::Nf4, 64, [2100, 128], 3));
    check(&case(QuantType::Fp4, 32, [2000, 77], 2));
}

#[test]
fn no_rows_and_parts_of_rows() {
    let case = case(QuantType::Nf4, 64, [4, 64], 1);
    let scales = case.weight.scales();
    let matrix = Matrix4bit::new(&case.weight, &scales).unwrap();
    for product in
        [matvec(&matrix, &[], Precision::Fast), matmul(&matrix, &[]), multiply(&matrix, &[], Precision::Exact)]
    {
        assert!(product.unwrap().is_empty());
    }
    let error = multiply(&matrix, &[1.0; 65], Precision::Fast).unwrap_err();
    assert!(matches!(error, QuantError::LengthMismatch { part: "activations", expected: 128, found: 65 }), "{error}");
    assert!(Matrix4bit::new(&case.weight, &scales[1..]).is_err());
    assert!(Matrix4bit::from_parts(case.weight.layout(), &case.weight.packed()[1..], &scales).is_err());
    let mut out = vec![0.0f32; 128];
    assert!(matrix.dequantize_rows(3..5, &mut out).is_err());
    assert!(matrix.dequantize_rows(2..4, &mut out).is_ok());
    assert_eq!(out, case.weight.dequantize::<f32>()[128..]);
}

#[test]
fn nan_and_infinite_activations_stay_visible() {
    let case = case(QuantType::Nf4, 64, [3, 64], 1);
    let scales = case.weight.scales();
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = case.x.clone();
        x[40] = bad;
        for isa in Isa::available() {
            for precision in [Precision::Exact, Precision::Fast] {
                let matrix = Matrix4bit::new(&case.weight, &scales).unwrap().on(isa);
                let product = matvec(&matrix, &x, precision).unwrap();
                assert!(product.iter().all(|value| !value.is_finite()), "{isa:?} {precision:?} {product:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(
        nf4: bool,
        blocksize in prop_oneof![Just(32usize), Just(64), Just(256)],
        rows in 1usize..60,
        columns in prop_oneof![1usize..140, (1usize..5).prop_map(|chunks| chunks * 32)],
        m in 1usize..20,
    ) {
        let quant_type = if nf4 { QuantType::Nf4 } else { QuantType::Fp4 };
        check(&case(quant_type, blocksize, [rows, columns], m));
    }
}

/// The greatest error of a product with dense weights, relative to the norms.
fn dense_error(weight: &[f32], columns: usize, x: &[f32], product: &[f32]) -> f64 {
    let norm = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let rows = weight.len() / columns;
    let mut worst = 0.0f64;
    for (x, product) in x.chunks_exact(columns).zip(product.chunks_exact(rows)) {
        for (weight, &product) in weight.chunks_exact(columns).zip(product) {
            let exact: f64 = weight.iter().zip(x).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            worst = worst.max((exact - f64::from(product)).abs() / (norm(weight) * norm(x) + f64::MIN_POSITIVE));
        }
    }
    worst
}

#[test]
fn dense_products_of_every_dtype_and_instruction_set_are_exact() {
    // Whole vectors, remainders of every kind, less than a vector, more than a tile.
    for shape in [[64, 128], [7, 40], [5, 13], [3, 3], [50, 300]] {
        let weight = random(shape[0] * shape[1], shape[1] as u64);
        let brain: Vec<bf16> = weight.iter().map(|&value| bf16::from_f32(value)).collect();
        let half: Vec<f16> = weight.iter().map(|&value| f16::from_f32(value)).collect();
        for m in [1, 2, 3, 4, 5, 9, 16, 17, 40] {
            let x = random(m * shape[1], 3);
            for isa in Isa::available() {
                let check = |values: Elements<'_>, weight: Vec<f32>| {
                    let product = DenseMatrix::new(values, shape).unwrap().on(isa).multiply(&x).unwrap();
                    assert_eq!(product.len(), m * shape[0]);
                    let error = dense_error(&weight, shape[1], &x, &product);
                    assert!(error < 1e-6, "{isa:?} {shape:?} with {m} rows: {error}");
                };
                check(Elements::F32(&weight), weight.clone());
                check(Elements::BF16(&brain), brain.iter().map(|value| value.to_f32()).collect());
                check(Elements::F16(&half), half.iter().map(|value| value.to_f32()).collect());
            }
        }
    }
}

#[test]
fn products_of_more_rows_than_are_multiplied_at_once_are_whole() {
    let (shape, m) = ([50, 24], 512 + 21);
    let (weight, x) = (random(50 * 24, 1), random(m * 24, 2));
    let product = DenseMatrix::new(Elements::F32(&weight), shape).unwrap().multiply(&x).unwrap();
    assert!(dense_error(&weight, 24, &x, &product) < 1e-6);
}

#[test]
fn a_dense_weight_of_another_size_is_refused() {
    let weight = [0.0f32; 12];
    assert!(DenseMatrix::new(Elements::F32(&weight), [3, 5]).is_err());
    assert!(DenseMatrix::new(Elements::F32(&weight), [usize::MAX, 2]).is_err());
    assert!(DenseMatrix::new(Elements::F32(&weight), [3, 4]).unwrap().multiply(&[0.0; 5]).is_err());
}
