//! The table of a small comparison.

use super::*;
use crate::{
    contenders::{self, Contender},
    machine::Processor,
    peers::Tokens,
};

fn contender(name: &str) -> &'static Contender {
    contenders::choose(&[name.to_owned()], &[])[0]
}

fn measured(name: &str, load: f64, decode: f64, bytes: Option<f64>) -> Measured {
    let median = Measurement {
        load_seconds: Some(load),
        decode_tokens_per_second: Some(decode),
        peak_resident_bytes: Some(f64::from(64 << 20)),
        weight_bytes_per_token: bytes,
        ..Measurement::default()
    };
    Measured { contender: contender(name), version: "1".to_owned(), rounds: vec![median.clone()], median }
}

fn report(measured: Vec<Measured>) -> Report {
    let processor = Processor { name: "Z80".to_owned(), sets: vec!["avx2"], cores: 2 };
    let skipped = Skipped { contender: contender("candle-f32"), reason: "it is not built".to_owned() };
    Report {
        machine: Machine { date: "2026-11-23".to_owned(), processor, threads: 2, load: None },
        workload: Workload { tokens: Tokens { prompt: 512, new: 32, warmup: 0 }, rounds: 3 },
        weights: Sizes { matrices: 400_000_000, vectors: 0, embedding: 7, head: 100_000_000, tensors: 9 },
        bandwidth: 20e9,
        measured,
        skipped: vec![skipped],
    }
}

#[test]
fn each_group_is_compared_with_ours() {
    let text = report(vec![
        measured("automodel-dense", 2.0, 5.0, Some(2e9)),
        measured("automodel-f32", 1.0, 4.0, Some(4e9)),
        measured("llama-bf16", 0.5, 15.0, None),
        measured("automodel-nf4", 4.0, 40.0, None),
        measured("transformers-nf4", 20.0, 30.0, None),
    ])
    .markdown();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert_eq!(
        rows,
        [
            "| automodel | 2.00 | - | - | 5.00 | 50 % | 64.0 |",
            "| automodel, float32 | 1.00 (0.500) | - | - | 4.00 (0.800) | 80 % | 64.0 (1.00) |",
            "| llama.cpp bf16 | 0.500 (0.250) | - | - | 15.0 (3.00) | 75 % | 64.0 (1.00) |",
            "| automodel nf4 | 4.00 | - | - | 40.0 | - | 64.0 |",
            "| transformers + bitsandbytes nf4 | 20.0 (5.00) | - | - | 30.0 (0.750) | 64 % | 64.0 (1.00) |",
        ]
    );
    assert!(text.starts_with("2026-11-23, 2 cores of Z80 with avx2; 2 threads. Warm"), "{text}");
    assert!(text.contains("20.0 GB/s") && text.contains("Skipped: candle-f32 (it is not built)."));
}

#[test]
fn without_ours_there_are_no_ratios() {
    let text = report(vec![measured("llama-bf16", 0.5, 15.0, None)]).markdown();
    assert!(text.contains("| llama.cpp bf16 | 0.500 | - | - | 15.0 | 75 % | 64.0 |"), "{text}");
}

#[test]
fn json_has_rounds_and_ceilings() {
    let json = report(vec![measured("llama-bf16", 0.5, 15.0, None)]).json();
    let row = &json["contenders"][0];
    assert_eq!((&row["name"], &row["decode_ceiling_tokens_per_second"]), (&json!("llama-bf16"), &json!(20.0)));
    assert_eq!(row["rounds"][0]["load_seconds"], 0.5);
    assert_eq!(json["skipped"][0]["name"], "candle-f32");
}
