//! Dense MLPs.

use crate::linears::{Linears, linears};
use crate::skeleton::Skeleton;
use crate::{Linear, ModelError, kernels};
use automodel_registry::spec::{Activation, Gating, MlpSpec};
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
    #[module(skip)]
    gating: Gating,
}

linears!(GatedMlp { gate_proj, up_proj, down_proj; activation, gating });

impl GatedMlp {
    pub(crate) fn of(spec: &MlpSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            gate_proj: parameters.linear("gate_proj")?,
            up_proj: parameters.linear("up_proj")?,
            down_proj: parameters.linear("down_proj")?,
            activation: spec.activation,
            gating: spec.gating,
        })
    }

    /// What goes into the last projection: the activated gate times the other projection, within the bounds on both.
    pub(crate) fn combine(&self, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        let Gating { limit, up_offset } = self.gating;
        let (gate, up) = match limit {
            Some(limit) => (gate.clamp_max(limit), up.clamp(-limit, limit)),
            None => (gate, up),
        };
        let up = if up_offset == 0.0 { up } else { up + up_offset };
        activate_times(self.activation, gate, up)
    }

    /// `[rows, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone());
        self.down_proj.forward(self.combine(gate, self.up_proj.forward(x)))
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
fn activate_times(kind: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    kernels::gated(kind, gate, &up).unwrap_or_else(|gate| activate_plainly(kind, gate) * up)
}

fn activate(kind: Activation, x: Tensor<2>) -> Tensor<2> {
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
    use crate::skeleton;
    use automodel_registry::spec::ParameterRole;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn gates_stay_within_their_bounds() {
        let gating = Gating { limit: Some(2.0), up_offset: 1.0 };
        let spec = MlpSpec { gating, ..MlpSpec::new(4, Activation::QuickGelu) };
        let device = Device::flex();
        let mlp = skeleton::build(
            |to| spec.declare_gated(4, ParameterRole::Projection, to),
            &device,
            |parameters| GatedMlp::of(&spec, parameters),
        );
        let row = |values: [f32; 4]| Tensor::<2>::from_data([values], &device);
        let found = mlp.unwrap().combine(row([3.0, -3.0, 1.0, 2.0]), row([0.5, 3.0, -3.0, -1.0]));
        let quick_gelu = |x: f32| x / (1.0 + (-1.702 * x).exp());
        // The gate is bounded from above alone, the other projection on both sides.
        let expected = [quick_gelu(2.0) * 1.5, quick_gelu(-3.0) * 3.0, -quick_gelu(1.0), 0.0];
        let found = found.into_data().try_into_vec::<f32>().unwrap();
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }

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
