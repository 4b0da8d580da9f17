//! Against transformers' own processors; see `sampling_reference/generate.py`.

use automodel_generation::Candidates;
use serde_json::Value;
use std::collections::BTreeSet;

const REFERENCE: &str = include_str!("../sampling_reference/sampling.json");

fn numbers(value: &Value) -> Vec<f32> {
    let number = |value: &Value| value.as_f64().map_or(f32::NEG_INFINITY, |number| number as f32);
    value.as_array().unwrap().iter().map(number).collect()
}

#[test]
fn agrees_with_the_processors_of_transformers() {
    let cases: Vec<Value> = serde_json::from_str(REFERENCE).unwrap();
    assert!(cases.len() > 100);
    for case in &cases {
        let options = &case["options"];
        let option = |name: &str| options[name].as_f64();
        let seen: BTreeSet<u32> = numbers(&case["seen"]).into_iter().map(|token| token as u32).collect();
        let mut candidates = Candidates::new(&numbers(&case["logits"])).unwrap();
        candidates.penalise_repetition(&seen, option("repetition_penalty").unwrap_or(1.0));
        candidates.apply_temperature(option("temperature").unwrap_or(1.0));
        candidates.keep_top_k(option("top_k").unwrap_or(0.0) as usize);
        candidates.keep_top_p(option("top_p").unwrap_or(1.0));
        candidates.keep_min_p(option("min_p").unwrap_or(0.0));

        let expected: Vec<Vec<f32>> = case["kept"].as_array().unwrap().iter().map(numbers).collect();
        let kept: Vec<(u32, f32)> = candidates.iter().collect();
        let tokens = |kept: &[(u32, f32)]| kept.iter().map(|(token, _)| *token).collect::<Vec<_>>();
        let expected: Vec<(u32, f32)> = expected.iter().map(|pair| (pair[0] as u32, pair[1])).collect();
        assert_eq!(tokens(&kept), tokens(&expected), "{case}");
        for ((_, score), (_, expected)) in kept.iter().zip(&expected) {
            assert!((score - expected).abs() <= 1e-6 * expected.abs(), "{score} is not {expected}: {case}");
        }
        assert_eq!(u64::from(candidates.argmax()), case["argmax"].as_u64().unwrap(), "{case}");
    }
}
