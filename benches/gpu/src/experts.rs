//! Products with chosen experts.

use crate::{
    kernels::Measured,
    shapes::{Experts, Layer, Model},
    time::per_launch,
};
use automodel::Device;
use automodel::quant::{QuantLinear, Scheme, WeightStack, table16::Blocksize};
use burn::module::{Param, ParamId};
use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use std::error::Error;

/// Choices that are used in turn, so that caches do not hold the experts.
const TURNS: usize = 16;

/// Gate and up, and down projections of the experts of a few tokens, in NF4 and dense.
pub fn measure(
    device: &Device,
    model: Model,
    experts: Experts,
    tokens: &[usize],
) -> Result<Vec<Measured>, Box<dyn Error>> {
    let Experts { hidden_size, intermediate_size, num_experts, num_experts_per_tok: choices } = experts;
    let dtype = if device.supports_dtype(DType::BF16) { DType::BF16 } else { DType::F16 };
    let mut all = Vec::new();
    let shapes = [("gate, up", [intermediate_size, hidden_size], 2), ("down", [hidden_size, intermediate_size], 1)];
    for (name, [out_features, in_features], parts) in shapes {
        let layer = Layer { name, out_features: parts * out_features, in_features };
        let elements = layer.out_features * in_features;
        for quantized in [true, false] {
            let (stack, bytes) = if quantized {
                let blocks = elements / Blocksize::default().get();
                (
                    quantized_stack(device, [out_features, in_features], num_experts * parts, parts)?,
                    elements / 2 + blocks * 4,
                )
            } else {
                (
                    dense_stack(device, dtype, [out_features, in_features], num_experts * parts, parts)?,
                    elements * dtype.size(),
                )
            };
            for &tokens in tokens.iter().filter(|tokens| **tokens * choices <= 2 * num_experts) {
                let pairs = tokens * choices;
                let random =
                    |rows: usize| Tensor::<2>::random([rows, in_features], Distribution::Normal(0.0, 1.0), device);
                let (x, each) = (random(tokens).cast(dtype), random(pairs).cast(dtype));
                let chosen: Vec<_> =
                    (0..TURNS).map(|turn| choice(turn, tokens, choices, num_experts, device)).collect();
                let factors = Tensor::<2>::ones([tokens, choices], (device, DType::F32));
                let seconds = per_launch(device, TURNS, &mut |turn| match parts {
                    1 => stack.weighted_sum(each.clone(), &chosen[turn], factors.clone()),
                    _ => stack.products(x.clone(), &chosen[turn]),
                })?;
                let kind = if quantized { "NF4" } else { "dense" };
                let what = format!("{choices} of {num_experts} experts, {kind}, {tokens} rows");
                let rows = 2 * (tokens * in_features + pairs * layer.out_features);
                all.push(Measured::new(model, layer, what, seconds, pairs * bytes + rows));
            }
        }
    }
    Ok(all)
}

/// Different experts for each token, others at each turn.
fn choice(turn: usize, tokens: usize, choices: usize, experts: usize, device: &Device) -> Tensor<2, Int> {
    let chosen: Vec<i32> =
        (0..tokens * choices).map(|pair| ((turn * tokens * choices + pair) * 37 % experts) as i32).collect();
    Tensor::from_data(TensorData::new(chosen, [tokens, choices]), (device, DType::I32))
}

fn quantized_stack(
    device: &Device,
    shape: [usize; 2],
    count: usize,
    parts: usize,
) -> Result<WeightStack, Box<dyn Error>> {
    let dense = Tensor::<2>::random(shape, Distribution::Normal(0.0, 0.02), device);
    let quantize = |_| QuantLinear::quantize(dense.clone(), Scheme::nf4(), None);
    let mut layers = (0..count).map(quantize).collect::<Result<Vec<_>, _>>()?;
    WeightStack::of_quantized(layers.iter_mut().collect(), parts).ok_or_else(|| "the device has no kernels".into())
}

fn dense_stack(
    device: &Device,
    dtype: DType,
    shape: [usize; 2],
    count: usize,
    parts: usize,
) -> Result<WeightStack, Box<dyn Error>> {
    let dense = Tensor::<2>::random(shape, Distribution::Normal(0.0, 0.02), device).cast(dtype);
    let mut weights: Vec<_> = (0..count).map(|_| Param::initialized(ParamId::new(), dense.clone())).collect();
    WeightStack::of_dense(weights.iter_mut().collect(), parts).ok_or_else(|| "the device has no kernels".into())
}
