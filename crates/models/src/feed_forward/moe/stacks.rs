//! Packed experts in the memory of a GPU, which routes tokens to them without the host.

use super::SparseMoe;
use super::gpu::{RoutePlan, route};
use crate::{GatedMlp, Linear, Weight};
use automodel_quant::{QuantLinear, WeightStack};
use burn::backend::DispatchDevice;
use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

/// Stacks of the experts' weights, if there are any. Their parts are the experts' own parameters: whatever may replace these drops the
/// stacks.
#[derive(Clone, Debug, Default)]
pub(super) struct Stacks(Option<Box<Pair>>);

#[derive(Clone, Debug)]
struct Pair {
    /// Of each expert the gate and the up projection.
    gate_up: WeightStack,
    down: WeightStack,
}

impl Stacks {
    /// Puts the weights of experts side by side: none where these are not alike, have biases, or are on a device without kernels.
    pub fn new(experts: &mut [GatedMlp]) -> Self {
        let has_bias = |linear: &Linear| linear.bias.is_some();
        let have_biases = |mlp: &GatedMlp| [&mlp.gate_proj, &mlp.up_proj, &mlp.down_proj].into_iter().any(has_bias);
        if experts.iter().any(have_biases) {
            return Self(None);
        }
        let gate_up = experts.iter_mut().flat_map(|mlp| [&mut mlp.gate_proj, &mut mlp.up_proj]).collect();
        let Some(gate_up) = stack(gate_up, 2) else { return Self(None) };
        let down = stack(experts.iter_mut().map(|mlp| &mut mlp.down_proj).collect(), 1);
        Self(down.map(|down| Box::new(Pair { gate_up, down })))
    }

    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether routing on the device is better for `tokens` tokens: it reads an expert for each token, routing on the host reads each
    /// expert once. An estimate; it was not measured.
    pub fn supports(&self, tokens: usize, moe: &SparseMoe) -> bool {
        let reads = tokens.saturating_mul(moe.gate.num_experts_per_tok);
        self.0.is_some() && tokens > 0 && reads <= 2 * moe.experts.len() && route_plan(moe).is_some()
    }

    /// `[tokens, hidden_size]` to the same, for tokens that [`supports`](Self::supports) allows.
    pub fn forward(&self, moe: &SparseMoe, x: &Tensor<2>) -> Option<Tensor<2>> {
        let stacks = self.0.as_ref().filter(|_| self.supports(x.dims()[0], moe))?;
        if !matches!(x.device().as_dispatch(), DispatchDevice::Cube(_)) {
            return None;
        }
        let plan = route_plan(moe)?;
        let logits = moe.gate.logits(x.clone());
        let (factors, chosen) = route(logits, plan);
        let both = stacks.gate_up.products(x.clone(), &chosen);
        let [rows, width] = both.dims();
        let (gate, up) = (both.clone().slice([0..rows, 0..width / 2]), both.slice([0..rows, width / 2..width]));
        let y = moe.experts.first()?.combine(gate, up);
        Some(stacks.down.weighted_sum(y, &chosen, factors))
    }
}

/// How the experts are chosen, if the kernel computes it.
fn route_plan(moe: &SparseMoe) -> Option<RoutePlan> {
    RoutePlan::new(&moe.gate.spec, moe.experts.len(), moe.gate.num_experts_per_tok)
}

/// The stack of projections that are all 4-bit, or all dense.
fn stack(linears: Vec<&mut Linear>, parts: usize) -> Option<WeightStack> {
    let count = linears.len();
    let (mut quantized, mut dense): (Vec<&mut QuantLinear>, Vec<&mut Param<Tensor<2>>>) = Default::default();
    for linear in linears {
        match &mut linear.weight {
            Weight::Quantized(layer) => quantized.push(layer),
            Weight::Dense(weight) => dense.push(weight),
        }
    }
    match (quantized.len(), dense.len()) {
        (all, _) if all == count => WeightStack::of_quantized(quantized, parts),
        (_, all) if all == count => WeightStack::of_dense(dense, parts),
        _ => None,
    }
}

/// Without parameters of its own.
impl Module for Stacks {
    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {}

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        Self(None)
    }

    fn to_device(self, _device: &Device) -> Self {
        Self(None)
    }

    fn fork(self, _device: &Device) -> Self {
        Self(None)
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn materialize(self) -> Self {
        Self(None)
    }

    fn valid(&self) -> Self {
        Self(None)
    }

    fn train(self) -> Self {
        Self(None)
    }
}

impl ModuleDisplayDefault for Stacks {
    fn content(&self, content: Content) -> Option<Content> {
        Some(content)
    }
}

impl ModuleDisplay for Stacks {}
