//! What is computed at each position: dense MLPs, or a [mixture of experts](MoeSpec).

use super::{Declare, MoeSpec, NormSpec, ParameterRole, validate};
use serde::Serialize;

pub(super) const NO_GATE: &str = "an activation with parameters is for MLPs without a gate";

/// What a layer computes at each position.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(clippy::large_enum_variant, reason = "specifications are few and are not moved about")]
pub enum FeedForward {
    /// `down_proj(activation(gate_proj(x)) * up_proj(x))`.
    Gated(MlpSpec),
    /// `down_proj(activation(up_proj(x)))`.
    Plain(MlpSpec),
    /// A router chooses a few gated experts for each token.
    Moe(MoeSpec),
}

impl FeedForward {
    /// The mixture of experts, if it is one.
    pub fn moe(&self) -> Option<&MoeSpec> {
        match self {
            Self::Moe(moe) => Some(moe),
            Self::Gated(_) | Self::Plain(_) => None,
        }
    }

    pub(super) fn validate(&self, hidden_size: usize) -> Result<(), String> {
        match self {
            Self::Gated(mlp) if mlp.activation.has_parameters() => Err(NO_GATE.to_owned()),
            Self::Gated(mlp) => {
                mlp.gating.validate()?;
                validate::check_elements("the MLP", &[mlp.intermediate_size, hidden_size])
            }
            Self::Plain(mlp) => {
                if mlp.gating != Gating::default() {
                    return Err("an MLP without a gate has no bounds on one".to_owned());
                }
                validate::check_elements("the MLP", &[mlp.intermediate_size, hidden_size])
            }
            Self::Moe(moe) => moe.validate(hidden_size),
        }
    }

    /// Declares its parameters.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        match self {
            Self::Gated(mlp) => mlp.declare_gated(hidden_size, ParameterRole::Projection, to),
            Self::Plain(mlp) => mlp.declare_plain(hidden_size, ParameterRole::Projection, to),
            Self::Moe(moe) => moe.declare(hidden_size, to),
        }
    }
}

/// Width, activation, bias and norm of a dense MLP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MlpSpec {
    /// Width between the projections.
    pub intermediate_size: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// Whether the projections carry biases.
    pub bias: bool,
    /// Norm on what `down_proj` projects (BitNet).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_norm: Option<NormSpec>,
    /// What is done to the gate and to what it multiplies.
    #[serde(skip_serializing_if = "Gating::is_product")]
    pub gating: Gating,
}

/// `activation(min(gate, limit)) * (clamp(up, -limit, limit) + up_offset)` (gpt-oss); by default the product alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Gating {
    /// Bound on the gate from above, and on the other projection from both sides.
    pub limit: Option<f64>,
    /// Added to the other projection.
    pub up_offset: f64,
}

impl Gating {
    /// `activation(gate) * up`
    pub fn is_product(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        match self.limit {
            Some(limit) if !(limit > 0.0 && limit.is_finite()) => {
                Err(format!("the gate of an MLP is limited to {limit}: it must be positive"))
            }
            _ if !self.up_offset.is_finite() => Err("the offset of a gated MLP must be finite".to_owned()),
            _ => Ok(()),
        }
    }
}

impl MlpSpec {
    /// Without biases and norm; a gate is multiplied as it is.
    pub fn new(intermediate_size: usize, activation: Activation) -> Self {
        Self { intermediate_size, activation, bias: false, sub_norm: None, gating: Gating::default() }
    }

    /// Declares `gate_proj`, `up_proj` and `down_proj`.
    pub fn declare_gated(&self, hidden_size: usize, role: ParameterRole, to: &mut Declare<'_>) {
        to.projection("gate_proj", [self.intermediate_size, hidden_size], self.bias, role);
        self.declare_plain(hidden_size, role, to);
    }

    /// Declares `up_proj` and `down_proj`, the parameters of the activation `act_fn`, and the norm.
    pub fn declare_plain(&self, hidden_size: usize, role: ParameterRole, to: &mut Declare<'_>) {
        to.projection("up_proj", [self.intermediate_size, hidden_size], self.bias, role);
        to.projection("down_proj", [hidden_size, self.intermediate_size], self.bias, role);
        to.inside("act_fn", |to| self.activation.declare(to));
        if let Some(norm) = &self.sub_norm {
            norm.declare("ffn_sub_norm", &[self.intermediate_size], to);
        }
    }
}

/// Elementwise non-linearities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`
    GeluTanh,
    /// `x * sigmoid(1.702 x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)^2`
    Relu2,
    /// xIELU: `softplus(alpha_p) x^2 + beta x` above zero, `(exp(min(x, eps)) - 1 - x) (beta + softplus(alpha_n)) + beta x` elsewhere,
    /// with numbers of the checkpoint (Apertus).
    Xielu,
}

impl Activation {
    /// Names of its parameters, which are one number each.
    pub const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Silu | Self::Gelu | Self::GeluTanh | Self::QuickGelu | Self::Relu | Self::Relu2 => &[],
            Self::Xielu => &["alpha_p", "alpha_n", "beta", "eps"],
        }
    }

    /// Whether it has parameters.
    pub const fn has_parameters(self) -> bool {
        !self.parameters().is_empty()
    }

    /// Declares its parameters.
    pub fn declare(self, to: &mut Declare<'_>) {
        self.parameters().iter().for_each(|name| to.parameter(name, &[1], ParameterRole::Other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_a_gate_are_positive() {
        let gated = |limit, up_offset| {
            let gating = Gating { limit: Some(limit), up_offset };
            MlpSpec { gating, ..MlpSpec::new(6, Activation::QuickGelu) }
        };
        assert_eq!(FeedForward::Gated(gated(7.0, 1.0)).validate(4), Ok(()));
        for wrong in [gated(0.0, 1.0), gated(f64::NAN, 1.0), gated(7.0, f64::INFINITY)] {
            assert!(FeedForward::Gated(wrong).validate(4).is_err());
        }
        assert!(FeedForward::Plain(gated(7.0, 1.0)).validate(4).unwrap_err().contains("without a gate"));
    }
}
