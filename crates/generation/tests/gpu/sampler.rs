//! The device sampler besides random draws: ties, NaN, memory.

use super::device;
use automodel_generation::{Candidates, DeviceSampler, GenerationError, SamplingOptions};
use burn::tensor::{DType, Device, Tensor, TensorData};

fn sampler(options: SamplingOptions, rows: usize, vocab: usize, device: &Device) -> DeviceSampler {
    DeviceSampler::new(&options, &vec![vec![0]; rows], vocab, device).unwrap()
}

fn tensor(logits: &[Vec<f32>], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(logits.concat(), [logits.len(), logits[0].len()]), (device, DType::F32))
}

fn greedy() -> SamplingOptions {
    SamplingOptions::default()
}

fn drawn() -> SamplingOptions {
    SamplingOptions { do_sample: true, ..SamplingOptions::default() }
}

#[test]
fn greedy_choice_takes_the_lowest_id_of_equals() {
    let Some(device) = device() else { return };
    let infinity = f32::INFINITY;
    let rows = vec![
        vec![0.0, -0.0, 0.0, -1.0],
        vec![-0.0, 0.0, 0.0, -1.0],
        vec![-infinity, -3.0, 5.0, 5.0],
        vec![-infinity, -infinity, -infinity, f32::MIN],
        vec![-1.0, -2.0, -1.0, -1.0],
        vec![1e-42, 2e-42, -1e-42, 0.0],
    ];
    let mut sampler = sampler(greedy(), rows.len(), 4, &device);
    sampler.choose(tensor(&rows, &device)).unwrap();
    for (row, logits) in rows.iter().enumerate() {
        assert_eq!(sampler.token(row).unwrap(), Candidates::new(logits).unwrap().argmax(), "{logits:?}");
    }
    // Equal ones that different units look at, in several rounds.
    let mut row = vec![0.5f32; 5000];
    for place in [4999, 3001, 2049, 1978] {
        row[place] = 0.75;
    }
    let mut sampler = self::sampler(greedy(), 1, 5000, &device);
    sampler.choose(tensor(&[row], &device)).unwrap();
    assert_eq!(sampler.token(0).unwrap(), 1978);
}

#[test]
fn nan_logits_give_the_error_of_the_cpu() {
    let Some(device) = device() else { return };
    let good: Vec<f32> = (0..300).map(|i| (i as f32).sin()).collect();
    let with = |changes: &[(usize, f32)]| {
        let mut row = good.clone();
        changes.iter().for_each(|&(place, value)| row[place] = value);
        row
    };
    let negative_nan = f32::from_bits(0xffc0_0001);
    let rows = vec![
        good.clone(),
        with(&[(280, f32::NAN), (7, f32::INFINITY)]),
        with(&[(3, negative_nan)]),
        with(&[(299, f32::INFINITY)]),
        vec![f32::NEG_INFINITY; 300],
        with(&[(3, f32::NEG_INFINITY)]),
    ];
    for options in [greedy(), drawn(), SamplingOptions { top_k: 0, repetition_penalty: 1.5, ..drawn() }] {
        let mut sampler = sampler(options.clone(), rows.len(), 300, &device);
        // Twice: a bad step leaves nothing behind.
        for _ in 0..2 {
            sampler.choose(tensor(&rows, &device)).unwrap();
            for (row, logits) in rows.iter().enumerate() {
                match (sampler.token(row), Candidates::new(logits)) {
                    (Ok(_), Ok(_)) => {}
                    (Err(found), Err(expected)) => {
                        assert!(matches!(found, GenerationError::NonFiniteLogits { .. }), "{found}");
                        assert_eq!(found.to_string(), expected.to_string());
                    }
                    (found, expected) => panic!("row {row}, {options:?}: {found:?} for {expected:?}"),
                }
            }
        }
    }
}

#[test]
fn tokens_stay_in_the_same_memory_and_are_remembered() {
    let Some(device) = device() else { return };
    let rows = vec![vec![0.0, 3.0, 2.9, 2.8], vec![2.0, 1.0, 1.9, 0.0]];
    let mut sampler = sampler(SamplingOptions { repetition_penalty: 2.0, ..greedy() }, 2, 4, &device);
    let read = |tokens: &Tensor<1, burn::tensor::Int>| -> Vec<i32> {
        tokens.clone().try_into_data().unwrap().try_into_vec().unwrap()
    };
    sampler.choose(tensor(&rows, &device)).unwrap();
    let tokens = sampler.tokens();
    assert_eq!(tokens.dtype(), DType::I32);
    // Token 0 was in the prompts.
    assert_eq!(read(&tokens), [1, 2]);
    for expected in [[2, 0], [3, 0]] {
        sampler.choose(tensor(&rows, &device)).unwrap();
        assert_eq!(read(&tokens), expected);
        assert_eq!(read(&sampler.tokens()), expected);
    }
}

#[test]
fn extreme_options_leave_one_token() {
    let Some(device) = device() else { return };
    let logits = vec![3.0e38f32, -3.0e38, 1.0, 3.0e38];
    let extreme =
        SamplingOptions { temperature: 1e-300, top_k: 1, top_p: 0.0, min_p: 1.0, repetition_penalty: 1e-30, ..drawn() };
    for seed in 0..4 {
        let mut sampler = sampler(SamplingOptions { seed, ..extreme.clone() }, 1, 4, &device);
        sampler.choose(tensor(std::slice::from_ref(&logits), &device)).unwrap();
        assert_eq!(sampler.token(0).unwrap(), 0);
    }
}

#[test]
fn mismatched_shapes_are_refused() {
    let Some(device) = device() else { return };
    assert!(DeviceSampler::supports(&device, 1, 128_256));
    assert!(!DeviceSampler::supports(&device, 1, 1 << 23));
    assert!(!DeviceSampler::supports(&device.clone().autodiff(), 1, 10));
    let new = |prompts: &[Vec<u32>], device: &Device| DeviceSampler::new(&greedy(), prompts, 10, device).unwrap_err();
    assert!(matches!(new(&[vec![1]], &Device::flex()), GenerationError::NoDeviceKernels { .. }));
    let penalised = SamplingOptions { repetition_penalty: 2.0, ..greedy() };
    let error = DeviceSampler::new(&penalised, &[vec![1], vec![2, 10]], 10, &device).unwrap_err();
    assert!(matches!(error, GenerationError::TokenOutOfVocabulary { token: 10, row: 1, position: 1, .. }), "{error}");
    let error = sampler(greedy(), 2, 10, &device).choose(tensor(&[vec![0.0; 10]], &device)).unwrap_err();
    assert!(matches!(error, GenerationError::LogitsShape { .. }), "{error}");
}
