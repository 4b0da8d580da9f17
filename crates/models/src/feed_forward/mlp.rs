//! Dense MLPs.

use crate::linears::{Linears, linears};
use crate::skeleton::Skeleton;
use crate::{Linear, ModelError, kernels};
use automodel_registry::spec::{Activation, MlpSpec};
use burn::module::Module;
use burn::tensor::{Tensor, activation};

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

linears!(GatedMlp { gate_proj, up_proj, down_proj; activation });

impl GatedMlp {
    pub(crate) fn of(spec: &MlpSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            gate_proj: parameters.linear("gate_proj")?,
            up_proj: parameters.linear("up_proj")?,
            down_proj: parameters.linear("down_proj")?,
            activation: spec.activation,
        })
    }

    /// What the gate goes through.
    #[cfg(feature = "cube")]
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// `[rows, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone());
        self.down_proj.forward(activate_times(self.activation, gate, self.up_proj.forward(x)))
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

linears!(PlainMlp { up_proj, down_proj; activation });

impl PlainMlp {
    pub(crate) fn of(spec: &MlpSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            up_proj: parameters.linear("up_proj")?,
            down_proj: parameters.linear("down_proj")?,
            activation: spec.activation,
        })
    }

    /// `[rows, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down_proj.forward(activate(self.activation, self.up_proj.forward(x)))
    }
}

/// `activation(gate) * up`
pub(crate) fn activate_times(kind: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    kernels::gated(kind, gate, &up).unwrap_or_else(|gate| activate_plainly(kind, gate) * up)
}

/// `activation(x)`
pub(crate) fn activate(kind: Activation, x: Tensor<2>) -> Tensor<2> {
    kernels::activated(kind, x).unwrap_or_else(|x| activate_plainly(kind, x))
}

/// In tensor operations: any device and dtype, differentiable.
fn activate_plainly(kind: Activation, x: Tensor<2>) -> Tensor<2> {
    match kind {
        Activation::Silu => activation::silu(x),
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::Relu2 => activation::relu(x).square(),
        Activation::Relu => activation::relu(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn one_pass_equals_tensor_operations() {
        use Activation::{Gelu, GeluTanh, QuickGelu, Relu, Relu2, Silu};
        let random = |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 3.0), &Device::flex());
        for kind in [Silu, Gelu, GeluTanh, QuickGelu, Relu, Relu2] {
            for (rows, width) in [(1, 1), (3, 17), (1, 5632), (133, 1001)] {
                let shape = [rows, width];
                let up = random(shape);
                for gate in [random(shape), random([width, rows]).swap_dims(0, 1)] {
                    let close = |found: Tensor<2>, expected: Tensor<2>| {
                        let tolerance = expected.clone().abs() * 2e-6 + 2e-6;
                        let excess = (found - expected).abs() - tolerance;
                        assert!(excess.max().into_scalar::<f32>() <= 0.0, "{kind:?} of {shape:?}");
                    };
                    let plain = activate_plainly(kind, gate.clone());
                    close(activate(kind, gate.clone()), plain.clone());
                    close(activate_times(kind, gate.clone(), up.clone()), plain.clone() * up.clone());
                    let turned = up.clone().swap_dims(0, 1).mul_scalar(1.0).swap_dims(0, 1);
                    close(activate_times(kind, gate.clone().mul_scalar(1.0), turned), plain * up.clone());
                }
            }
        }
    }
}
