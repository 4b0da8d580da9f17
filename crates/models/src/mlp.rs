//! Dense MLPs.

use crate::Linear;
use automodel_registry::spec::{Activation, MlpSpec};
use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

/// `down_proj(activation(gate_proj(x)) * up_proj(x))`
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// `[intermediate_size, hidden_size]`
    pub gate_proj: Linear,
    /// `[intermediate_size, hidden_size]`
    pub up_proj: Linear,
    /// `[hidden_size, intermediate_size]`
    pub down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl GatedMlp {
    /// An MLP without values.
    pub fn new(hidden_size: usize, spec: &MlpSpec, device: &Device) -> Self {
        let inner = spec.intermediate_size;
        Self {
            gate_proj: Linear::new(hidden_size, inner, spec.bias, device),
            up_proj: Linear::new(hidden_size, inner, spec.bias, device),
            down_proj: Linear::new(inner, hidden_size, spec.bias, device),
            activation: spec.activation,
        }
    }

    /// `[rows, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = activate(self.activation, self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }
}

/// `down_proj(activation(up_proj(x)))`
#[derive(Module, Debug)]
pub struct PlainMlp {
    /// `[intermediate_size, hidden_size]`
    pub up_proj: Linear,
    /// `[hidden_size, intermediate_size]`
    pub down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl PlainMlp {
    /// An MLP without values.
    pub fn new(hidden_size: usize, spec: &MlpSpec, device: &Device) -> Self {
        Self {
            up_proj: Linear::new(hidden_size, spec.intermediate_size, spec.bias, device),
            down_proj: Linear::new(spec.intermediate_size, hidden_size, spec.bias, device),
            activation: spec.activation,
        }
    }

    /// `[rows, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down_proj.forward(activate(self.activation, self.up_proj.forward(x)))
    }
}

fn activate<const D: usize>(kind: Activation, x: Tensor<D>) -> Tensor<D> {
    match kind {
        Activation::Silu => activation::silu(x),
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::Relu2 => activation::relu(x).square(),
        Activation::Relu => activation::relu(x),
    }
}
