//! Rotary embeddings against numbers of transformers (`tests/rope_reference/generate.py`).

use automodel_attention::{AttentionError, Positions, Rope, RopeConfig, RopePairing, RopeScaling};
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::Value;

const REFERENCE: &str = include_str!("../rope_reference/rope.json");

fn reference() -> Value {
    serde_json::from_str(REFERENCE).expect("the generator writes JSON")
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn width(value: &Value) -> usize {
    value.as_u64().expect("a whole number") as usize
}

/// The configuration of a case, as a caller would lower it from `rope_parameters`.
fn config(case: &Value) -> RopeConfig {
    let parameters = &case["rope_parameters"];
    let number = |key: &str, absent: f64| parameters[key].as_f64().unwrap_or(absent);
    let original = parameters["original_max_position_embeddings"]
        .as_u64()
        .or(case["max_position_embeddings"].as_u64())
        .expect("a length") as usize;
    let attention_factor = case["attention_scaling"].as_f64().expect("a factor");
    let head_dim = width(&case["head_dim"]);
    let factor = number("factor", 1.0);
    let scaling = match parameters["rope_type"].as_str().expect("a type") {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor },
        "dynamic" => RopeScaling::Dynamic { factor, original_max_position_embeddings: original },
        "yarn" => RopeScaling::Yarn {
            factor,
            beta_fast: number("beta_fast", 32.0),
            beta_slow: number("beta_slow", 1.0),
            original_max_position_embeddings: original,
            attention_factor,
            truncate: parameters["truncate"].as_bool().unwrap_or(true),
        },
        "longrope" => RopeScaling::LongRope {
            short_factor: floats(&parameters["short_factor"]),
            long_factor: floats(&parameters["long_factor"]),
            original_max_position_embeddings: original,
            attention_factor,
            long_attention_factor: None,
        },
        "llama3" => RopeScaling::Llama3 {
            factor,
            low_freq_factor: number("low_freq_factor", 1.0),
            high_freq_factor: number("high_freq_factor", 4.0),
            original_max_position_embeddings: original,
        },
        "proportional" => RopeScaling::Proportional { factor, head_dim },
        other => panic!("the generator knows a type that this test does not: {other}"),
    };
    let theta = number("rope_theta", f64::NAN);
    RopeConfig { head_dim, rotary_dim: width(&case["rotary_dim"]), theta, pairing: RopePairing::HalfSplit, scaling }
}

#[test]
fn frequencies_and_tables_of_every_type() {
    let reference = reference();
    let cases = reference["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), 15);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let rope = Rope::new(config(case)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Some(rope.attention_scaling(0)), case["attention_scaling"].as_f64(), "{name}");
        for call in case["calls"].as_array().expect("a list") {
            let total_length = width(&call["total_length"]);
            let found = rope.inverse_frequencies(total_length);
            let expected = floats(&call["inverse_frequencies"]);
            assert_eq!(found.len(), expected.len(), "{name}");
            for (i, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
                // One unit in the last place of float32: the powers of PyTorch are not always correctly rounded.
                let close = (f64::from(found) - expected).abs() <= 1.2e-7 * expected;
                assert!(close, "{name} at {total_length}: frequency {i} is {found:e}, expected {expected:e}");
            }

            let positions: Vec<usize> = call["positions"].as_array().expect("a list").iter().map(width).collect();
            // The angle inherits the last bits of its frequency.
            let tolerance = 1e-6 + 1.2e-7 * total_length as f64;
            let tables = rope.tables(&[positions], total_length, &Device::flex()).expect("valid positions");
            for (table, key) in [(tables.cos(), "cos"), (tables.sin(), "sin")] {
                let expected: Vec<f64> = call[key].as_array().expect("a list").iter().flat_map(floats).collect();
                let found: Vec<f32> = table.into_data().try_to_vec().expect("float32");
                assert_eq!(found.len(), expected.len(), "{name}");
                for (&found, &expected) in found.iter().zip(&expected) {
                    let error = (f64::from(found) - expected).abs();
                    assert!(error <= tolerance, "{name}, {key} at {total_length}: {found}, expected {expected}");
                }
            }
        }
    }
}

#[test]
fn rotations_of_both_pairings_whole_and_partial() {
    let reference = reference();
    let rotations = &reference["rotations"];
    let shape: Vec<usize> = rotations["shape"].as_array().expect("a list").iter().map(width).collect();
    let input: Vec<f32> = floats(&rotations["input"]).into_iter().map(|x| x as f32).collect();
    let positions: Vec<Vec<usize>> = rotations["positions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row.as_array().expect("a list").iter().map(width).collect())
        .collect();
    let device = Device::flex();
    let x = Tensor::<4>::from_data(TensorData::new(input, shape), (&device, DType::F32));
    for result in rotations["results"].as_array().expect("a list") {
        let pairing = match result["pairing"].as_str() {
            Some("half_split") => RopePairing::HalfSplit,
            _ => RopePairing::Interleaved,
        };
        let rope = Rope::new(RopeConfig {
            head_dim: 8,
            rotary_dim: width(&result["rotary_dim"]),
            theta: 100.0,
            pairing,
            scaling: RopeScaling::Default,
        })
        .expect("a valid configuration");
        let tables = rope.tables(&positions, 41, &device).expect("valid positions");
        let found: Vec<f32> = tables.apply(x.clone()).into_data().try_to_vec().expect("float32");
        for (found, expected) in found.iter().zip(floats(&result["output"])) {
            assert!((f64::from(*found) - expected).abs() < 2e-6, "{result}: {found}, expected {expected}");
        }
        let half = tables.apply(x.clone().cast(DType::F16));
        assert_eq!(half.dtype(), DType::F16);
    }
}

fn plain(scaling: RopeScaling) -> RopeConfig {
    RopeConfig { head_dim: 8, rotary_dim: 8, theta: 10_000.0, pairing: RopePairing::HalfSplit, scaling }
}

#[test]
fn padded_rows_turn_as_if_they_were_alone() {
    let device = Device::flex();
    let rope = Rope::new(plain(RopeScaling::Default)).expect("a valid configuration");
    let positions = Positions { padding: vec![0, 3], ..Positions::default() };
    let padded = rope.tables(&positions.rotary(5), 5, &device).expect("valid positions");
    let alone = rope.tables(&Positions::default().rotary(2), 2, &device).expect("valid positions");
    let row = padded.cos().narrow(0, 1, 1).narrow(2, 3, 2);
    assert_eq!(row.into_data(), alone.cos().into_data());
}

#[test]
fn configurations_that_are_refused() {
    let default = plain(RopeScaling::Default);
    let llama3 = |low_freq_factor, high_freq_factor| RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: 64,
    };
    let yarn = |factor, beta_fast, attention_factor| RopeScaling::Yarn {
        factor,
        beta_fast,
        beta_slow: 1.0,
        original_max_position_embeddings: 64,
        attention_factor,
        truncate: true,
    };
    for config in [
        RopeConfig { rotary_dim: 0, ..default.clone() },
        RopeConfig { rotary_dim: 7, ..default.clone() },
        RopeConfig { rotary_dim: 10, ..default.clone() },
        RopeConfig { theta: 0.0, ..default.clone() },
        RopeConfig { theta: f64::NAN, ..default.clone() },
        plain(RopeScaling::Linear { factor: 0.0 }),
        plain(RopeScaling::Dynamic { factor: 0.5, original_max_position_embeddings: 64 }),
        plain(RopeScaling::Dynamic { factor: 2.0, original_max_position_embeddings: 0 }),
        RopeConfig {
            rotary_dim: 2,
            ..plain(RopeScaling::Dynamic { factor: 2.0, original_max_position_embeddings: 64 })
        },
        plain(yarn(f64::INFINITY, 32.0, 1.0)),
        plain(yarn(4.0, 0.0, 1.0)),
        plain(yarn(4.0, 32.0, f64::NAN)),
        RopeConfig { theta: 1.0, ..plain(yarn(4.0, 32.0, 1.0)) },
        plain(llama3(-1.0, 4.0)),
        plain(RopeScaling::Proportional { factor: 1.0, head_dim: 16 }),
    ] {
        let result = Rope::new(config.clone());
        assert!(matches!(result, Err(AttentionError::Parameter { .. })), "{config:?}: {result:?}");
    }
    let longrope = RopeScaling::LongRope {
        short_factor: vec![1.0; 4],
        long_factor: vec![1.0; 3],
        original_max_position_embeddings: 64,
        attention_factor: 1.0,
        long_attention_factor: None,
    };
    let result = Rope::new(plain(longrope)).map(|_| ());
    assert_eq!(result, Err(AttentionError::RopeFactors { name: "long_factor", expected: 4, found: 3 }));
}

/// Phi-3.5-MoE has a factor for each range.
#[test]
fn longrope_may_have_another_factor_beyond_the_original_length() {
    let scaling = |long_attention_factor| RopeScaling::LongRope {
        short_factor: vec![1.0; 4],
        long_factor: vec![2.0; 4],
        original_max_position_embeddings: 64,
        attention_factor: 1.25,
        long_attention_factor,
    };
    let factors = |long| [1, 64, 65].map(|length| Rope::new(plain(scaling(long))).unwrap().attention_scaling(length));
    assert_eq!(factors(None), [1.25; 3]);
    assert_eq!(factors(Some(1.5)), [1.25, 1.25, 1.5]);
    let result = Rope::new(plain(scaling(Some(-1.0))));
    assert!(matches!(result, Err(AttentionError::Parameter { name: "long_attention_factor", .. })));
}

/// `_compute_llama3_parameters` of transformers warns about such factors and computes: no wavelength lies between the two.
#[test]
fn llama3_factors_that_are_equal_scale_what_is_longer_than_their_wavelength() {
    let default = Rope::new(plain(RopeScaling::Default)).expect("a valid configuration").inverse_frequencies(1);
    for (low_freq_factor, high_freq_factor) in [(4.0, 4.0), (4.0, 2.0)] {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: 64,
        };
        let scaled = Rope::new(plain(scaling)).expect("a valid configuration").inverse_frequencies(1);
        let longest = 64.0 / low_freq_factor as f32;
        let longer = |frequency: f32| std::f32::consts::TAU / frequency > longest;
        let expected: Vec<f32> =
            default.iter().map(|&frequency| if longer(frequency) { frequency / 8.0 } else { frequency }).collect();
        assert_eq!(scaled, expected);
        assert!(scaled.iter().zip(&default).any(|(a, b)| a == b) && scaled != default);
    }
}

#[test]
fn positions_that_are_refused() {
    let rope = Rope::new(plain(RopeScaling::Default)).expect("a valid configuration");
    for (positions, row) in [(vec![], 0), (vec![vec![]], 0), (vec![vec![1, 2], vec![1]], 1)] {
        let result = rope.tables(&positions, 3, &Device::flex()).map(|_| ());
        assert!(matches!(result, Err(AttentionError::RopePositions { row: found, .. }) if found == row), "{result:?}");
    }
}
