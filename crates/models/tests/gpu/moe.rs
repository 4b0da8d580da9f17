//! Mixtures of experts whose device sends tokens to them by itself.

use super::{check, device, dtypes, values};
use automodel_models::parameters::{ParameterTensor, assign};
use automodel_models::{Linear, SparseMoe, Weight};
use automodel_quant::{Precision, QuantLinear, Scheme};
use automodel_registry::spec::{Activation, MlpSpec, MoeSpec, Normalize, RouterScore, RouterSpec, SharedExpert};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};

const HIDDEN: usize = 64;

fn spec(score: RouterScore, num_experts: usize, num_experts_per_tok: usize) -> MoeSpec {
    let mlp = |intermediate_size| MlpSpec::new(intermediate_size, Activation::Silu);
    MoeSpec { num_experts, num_experts_per_tok, expert: mlp(96), router: RouterSpec::new(score), shared_expert: None }
}

/// Values in [-1, 1] that repeat after a million or so.
fn noise(count: usize, seed: usize) -> Vec<f32> {
    let hashed = |i: usize| (i + seed).wrapping_mul(2_654_435_761) % 1_000_003;
    (0..count).map(|i| hashed(i) as f32 / 500_001.0 - 1.0).collect()
}

/// A mixture whose parameters depend on their paths alone; 4-bit experts, perhaps with double quantisation.
fn moe(spec: &MoeSpec, dtype: DType, double_quant: Option<bool>, device: &Device) -> SparseMoe {
    let mut shapes = Vec::new();
    let moe = SparseMoe::new(HIDDEN, spec, device).unwrap();
    automodel_models::parameters::visit(&moe, &mut |path, shape| shapes.push((path.to_owned(), shape.to_vec())));
    let (mut moe, outcome) = assign(moe, &mut |path| {
        let (_, shape) = shapes.iter().find(|(known, _)| known == path)?;
        let seed = path.bytes().fold(7usize, |hash, byte| hash * 31 % 1_000_003 + byte as usize);
        let data = TensorData::new(noise(shape.iter().product(), seed * 13), shape.clone()).convert_dtype(dtype);
        Some(match shape[..] {
            [_] => ParameterTensor::new(Tensor::<1>::from_data(data, (device, dtype))),
            _ => ParameterTensor::new(Tensor::<2>::from_data(data, (device, dtype)) * 0.2),
        })
    });
    outcome.unwrap();
    if let Some(double_quant) = double_quant {
        let quantize = |linear: &mut Linear| {
            let Weight::Dense(weight) = &linear.weight else { panic!("a dense weight") };
            let layer = QuantLinear::quantize(weight.val(), Scheme::nf4(), None).unwrap();
            let weight = layer.to_weight().and_then(|weight| weight.table16()).unwrap();
            let weight = if double_quant { weight.nested() } else { weight };
            linear.set_quantized("expert", QuantLinear::new(&weight, None, device), Precision::Exact).unwrap();
        };
        for expert in moe.experts_mut() {
            [&mut expert.gate_proj, &mut expert.up_proj, &mut expert.down_proj].into_iter().for_each(quantize);
        }
    }
    moe
}

fn forward(moe: &SparseMoe, rows: usize, dtype: DType, device: &Device) -> Vec<f32> {
    let data = TensorData::new(noise(rows * HIDDEN, 99), [rows, HIDDEN]).convert_dtype(dtype);
    let y = moe.forward(Tensor::<2>::from_data(data, (device, dtype)));
    assert_eq!((y.dims(), y.dtype()), ([rows, HIDDEN], dtype));
    y.try_into_data().unwrap().convert::<f32>().try_into_vec().unwrap()
}

#[test]
fn the_device_chooses_as_the_host_does() {
    let Some(device) = device() else { return };
    let cpu = Device::flex();
    for score in [RouterScore::Softmax, RouterScore::TopkSoftmax, RouterScore::Sigmoid] {
        // More experts than units of a cube, and as many as a model has at least.
        for (num_experts, chosen) in [(8, 2), (60, 4), (300, 9), (1, 1)] {
            let mut spec = spec(score, num_experts, chosen);
            if num_experts == 60 {
                let mlp = MlpSpec { intermediate_size: 32, ..spec.expert.clone() };
                spec.shared_expert = Some(SharedExpert { mlp, gate: true });
                spec.router.normalize = Normalize::by_sum(score != RouterScore::TopkSoftmax);
                spec.router.scale = Some(2.5);
                spec.router.bias = true;
            }
            let here = moe(&spec, DType::F32, None, &cpu);
            let mut there = moe(&spec, DType::F32, None, &device);
            let before = forward(&there, 2, DType::F32, &device);
            there.stack_experts();
            assert!(there.is_stacked());
            let what = format!("{score:?}, {chosen} of {num_experts}");
            check(&before, &forward(&there, 2, DType::F32, &device), DType::F32, &format!("before and after: {what}"));
            for rows in [1, 2] {
                let [found, expected] =
                    [(&there, &device), (&here, &cpu)].map(|(moe, on)| forward(moe, rows, DType::F32, on));
                check(&found, &expected, DType::F32, &what);
            }
        }
    }
}

#[test]
fn stacked_experts_compute_what_they_did() {
    let Some(device) = device() else { return };
    let cpu = Device::flex();
    let spec = spec(RouterScore::TopkSoftmax, 8, 2);
    for dtype in dtypes(&device) {
        for double_quant in [None, Some(false), Some(true)] {
            let here = moe(&spec, dtype, double_quant, &cpu);
            let mut there = moe(&spec, dtype, double_quant, &device);
            there.stack_experts();
            assert!(there.is_stacked(), "{dtype:?} {double_quant:?}");
            // Few tokens, and more than the device sends by itself.
            for rows in [1, 3, 8, 9] {
                let [found, expected] =
                    [(&there, &device), (&here, &cpu)].map(|(moe, on)| forward(moe, rows, dtype, on));
                let tolerance = if dtype == DType::F32 { DType::F32 } else { DType::BF16 };
                check(&found, &expected, tolerance, &format!("{dtype:?} {double_quant:?}, {rows} rows"));
            }
        }
    }
}

#[test]
fn whatever_may_change_an_expert_drops_the_stacks() {
    let Some(device) = device() else { return };
    let spec = spec(RouterScore::Softmax, 4, 2);
    let stacked = || {
        let mut moe = moe(&spec, DType::F32, None, &device);
        moe.stack_experts();
        assert!(moe.is_stacked());
        moe
    };
    let mut changed = stacked();
    let _ = changed.experts_mut();
    assert!(!changed.is_stacked());
    let zeros = |path: &str| {
        path.ends_with("down_proj.weight").then(|| ParameterTensor::new(Tensor::<2>::zeros([HIDDEN, 96], &device)))
    };
    let (zeroed, outcome) = assign(stacked(), &mut |path| zeros(path));
    outcome.unwrap();
    assert!(!zeroed.is_stacked());
    assert!(forward(&zeroed, 1, DType::F32, &device).iter().all(|value| *value == 0.0));
    assert!(!stacked().to_device(&device).is_stacked() && !stacked().valid().is_stacked());

    // Experts that are stored differently are not packed.
    let mut mixed = moe(&spec, DType::F32, None, &device);
    let values = values([HIDDEN, 96], 0.0, DType::F32, &device);
    let layer = QuantLinear::quantize(values, Scheme::nf4(), None).unwrap();
    mixed.experts_mut()[1].down_proj.set_quantized("expert", layer, Precision::Exact).unwrap();
    mixed.stack_experts();
    assert!(!mixed.is_stacked());
    let mut biased = spec.clone();
    biased.expert.bias = true;
    let mut biased = moe(&biased, DType::F32, None, &device);
    biased.stack_experts();
    assert!(!biased.is_stacked());
    let mut here = moe(&spec, DType::F32, None, &Device::flex());
    here.stack_experts();
    assert!(!here.is_stacked());
}

#[test]
fn compiles_the_choice_of_experts() {
    let Some(device) = device() else { return };
    for score in [RouterScore::Softmax, RouterScore::TopkSoftmax, RouterScore::Sigmoid] {
        let mut moe = moe(&spec(score, 4, 2), DType::F32, None, &device);
        moe.stack_experts();
        // Panics where a kernel does not compile.
        forward(&moe, 1, DType::F32, &device);
    }
}
