//! Dense MLPs.

use crate::linears::{Linears, linears};
use crate::skeleton::Skeleton;
use crate::{Linear, ModelError, Norm, kernels};
use automodel_registry::spec::{Activation, Gating, MlpSpec};
use burn::module::{Module, Param};
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
    /// Norm on what `down_proj` projects.
    pub ffn_sub_norm: Option<Norm>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    gating: Gating,
}

linears!(GatedMlp { gate_proj, up_proj, down_proj; ffn_sub_norm, activation, gating });

impl GatedMlp {
    pub(crate) fn of(spec: &MlpSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            gate_proj: parameters.linear("gate_proj")?,
            up_proj: parameters.linear("up_proj")?,
            down_proj: parameters.linear("down_proj")?,
            ffn_sub_norm: spec.sub_norm.map(|norm| parameters.norm("ffn_sub_norm", norm)).transpose()?,
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
        let inner = self.combine(gate, self.up_proj.forward(x));
        self.down_proj.forward(Norm::apply(self.ffn_sub_norm.as_ref(), inner))
    }
}

/// `down_proj(activation(up_proj(x)))`
#[derive(Module, Debug)]
pub struct PlainMlp {
    /// `[intermediate_size, hidden_size]`
    pub up_proj: Linear,
    /// `[hidden_size, intermediate_size]`
    pub down_proj: Linear,
    /// Parameters of the activation, if it has some.
    pub act_fn: Option<Xielu>,
    /// Norm on what `down_proj` projects.
    pub ffn_sub_norm: Option<Norm>,
    #[module(skip)]
    activation: Activation,
}

linears!(PlainMlp { up_proj, down_proj; act_fn, ffn_sub_norm, activation });

impl PlainMlp {
    pub(crate) fn of(spec: &MlpSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            up_proj: parameters.linear("up_proj")?,
            down_proj: parameters.linear("down_proj")?,
            act_fn: match spec.activation {
                Activation::Xielu => Some(Xielu::of(&parameters.at("act_fn"))?),
                Activation::Silu
                | Activation::Gelu
                | Activation::GeluTanh
                | Activation::QuickGelu
                | Activation::Relu
                | Activation::Relu2 => None,
            },
            ffn_sub_norm: spec.sub_norm.map(|norm| parameters.norm("ffn_sub_norm", norm)).transpose()?,
            activation: spec.activation,
        })
    }

    /// `[rows, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = self.up_proj.forward(x);
        let inner = match &self.act_fn {
            Some(xielu) => xielu.forward(inner),
            None => activate(self.activation, inner),
        };
        self.down_proj.forward(Norm::apply(self.ffn_sub_norm.as_ref(), inner))
    }
}

/// [`Activation::Xielu`], an activation with parameters.
#[derive(Module, Debug)]
pub struct Xielu {
    /// `[1]`: its softplus is the factor on the square above zero.
    pub alpha_p: Param<Tensor<1>>,
    /// `[1]`: its softplus and `beta` are the factor on the exponential below zero.
    pub alpha_n: Param<Tensor<1>>,
    /// `[1]`: the slope at zero.
    pub beta: Param<Tensor<1>>,
    /// `[1]`: the exponent is at most this.
    pub eps: Param<Tensor<1>>,
}

impl Xielu {
    fn of(parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            alpha_p: parameters.tensor("alpha_p")?,
            alpha_n: parameters.tensor("alpha_n")?,
            beta: parameters.tensor("beta")?,
            eps: parameters.tensor("eps")?,
        })
    }

    /// Replaces each element by its activation.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let value = |parameter: &Param<Tensor<1>>| parameter.val().cast(x.dtype());
        let softplus = |x: Tensor<1>| activation::softplus(x, 1.0);
        let (beta, eps) = (value(&self.beta), value(&self.eps));
        let above: Tensor<2> = softplus(value(&self.alpha_p)).unsqueeze();
        let below: Tensor<2> = (beta.clone() + softplus(value(&self.alpha_n))).unsqueeze();
        let exponent = x.clone().min_pair(eps.unsqueeze::<2>().expand(x.dims()));
        // `exp(y) - 1` as `tanh(y / 2) * (exp(y) + 1)`, which does not cancel near zero.
        let grown = (exponent.clone() * 0.5).tanh() * (exponent.exp() + 1.0);
        let negative = (grown - x.clone()) * below;
        let positive = x.clone().square() * above;
        negative.mask_where(x.clone().greater_elem(0.0), positive) + x * beta.unsqueeze::<2>()
    }
}

/// `activation(gate) * up`
fn activate_times(kind: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    kernels::gated(kind, gate, &up).unwrap_or_else(|gate| activate_plainly(kind, gate) * up)
}

/// `activation(x)`
pub(crate) fn activate(kind: Activation, x: Tensor<2>) -> Tensor<2> {
    kernels::activated(kind, x).unwrap_or_else(|x| activate_plainly(kind, x))
}

/// In tensor operations: any device and dtype, differentiable. Of an activation with parameters, which [`Xielu`] computes, it is the identity: a
/// specification has no such activation elsewhere.
fn activate_plainly(kind: Activation, x: Tensor<2>) -> Tensor<2> {
    match kind {
        Activation::Silu => activation::silu(x),
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::Relu2 => activation::relu(x).square(),
        Activation::Relu => activation::relu(x),
        Activation::Xielu => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skeleton;
    use automodel_registry::spec::ParameterRole;
    use burn::module::ParamId;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn xielu_is_its_definition() {
        let device = Device::flex();
        let number = |x: f32| Param::initialized(ParamId::new(), Tensor::<1>::from_floats([x], &device));
        let xielu = Xielu { alpha_p: number(-0.3), alpha_n: number(0.4), beta: number(0.6), eps: number(-0.05) };
        let xs = [-30.0_f32, -2.0, -0.06, -0.05, -0.01, -1e-7, 0.0, 1e-7, 0.5, 3.0];
        let found = xielu.forward(Tensor::<2>::from_floats([xs], &device)).into_data().try_into_vec::<f32>().unwrap();
        let softplus = |x: f64| x.exp().ln_1p();
        for (&x, &found) in xs.iter().zip(&found) {
            let x = f64::from(x);
            let expected = if x > 0.0 {
                softplus(-0.3) * x * x + 0.6 * x
            } else {
                (x.min(-0.05).exp_m1() - x) * (0.6 + softplus(0.4)) + 0.6 * x
            };
            assert!(
                (f64::from(found) - expected).abs() <= 2e-6 * (1.0 + expected.abs()),
                "{x}: {found}, not {expected}"
            );
        }
    }

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
