//! What is computed at each position: dense MLPs and mixtures of experts.

use super::{Declare, ParameterRole, validate};
use serde::Serialize;

/// More experts in a layer than this are a mistake, not a model; the table of ranges in `config` has the same bound for the
/// keys that it knows.
const MOST_EXPERTS: usize = 1 << 13;

/// What a layer computes at each position.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
            Self::Gated(mlp) | Self::Plain(mlp) => {
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

/// Width, activation and bias of a dense MLP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MlpSpec {
    /// Width between the projections.
    pub intermediate_size: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// Whether the projections carry biases.
    pub bias: bool,
}

impl MlpSpec {
    /// Declares `gate_proj`, `up_proj` and `down_proj`.
    pub fn declare_gated(&self, hidden_size: usize, role: ParameterRole, to: &mut Declare<'_>) {
        to.projection("gate_proj", [self.intermediate_size, hidden_size], self.bias, role);
        self.declare_plain(hidden_size, role, to);
    }

    /// Declares `up_proj` and `down_proj`.
    pub fn declare_plain(&self, hidden_size: usize, role: ParameterRole, to: &mut Declare<'_>) {
        to.projection("up_proj", [self.intermediate_size, hidden_size], self.bias, role);
        to.projection("down_proj", [hidden_size, self.intermediate_size], self.bias, role);
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
}

/// A mixture of gated experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MoeSpec {
    /// Number of experts.
    pub num_experts: usize,
    /// Experts a token is sent to.
    pub num_experts_per_tok: usize,
    /// The experts' MLP.
    pub expert: MlpSpec,
    /// How experts are scored and weighted.
    pub router: RouterSpec,
    /// An expert that sees every token.
    pub shared_expert: Option<SharedExpert>,
}

impl MoeSpec {
    /// Declares the router `gate`, `experts.0` and so on, and the shared expert with its gate.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        let router = ParameterRole::Router;
        to.projection("gate", [self.num_experts, hidden_size], self.router.bias, router);
        to.repeat("experts", self.num_experts, |to| {
            self.expert.declare_gated(hidden_size, ParameterRole::ExpertProjection, to);
        });
        if let Some(shared) = &self.shared_expert {
            to.inside("shared_expert", |to| shared.mlp.declare_gated(hidden_size, ParameterRole::Projection, to));
            if shared.gate {
                to.projection("shared_expert_gate", [1, hidden_size], false, router);
            }
        }
    }
}

impl MoeSpec {
    fn validate(&self, hidden_size: usize) -> Result<(), String> {
        if self.num_experts_per_tok == 0 || self.num_experts_per_tok > self.num_experts {
            return Err(format!(
                "num_experts_per_tok is {}, but there are {} experts: it must be between 1 and their number",
                self.num_experts_per_tok, self.num_experts
            ));
        }
        if self.num_experts > MOST_EXPERTS {
            return Err(format!("{} experts are more than any model's: correct the config", self.num_experts));
        }
        if self.router.score == RouterScore::TopkSoftmax && self.router.normalize {
            return Err("softmax over the chosen experts is normalised already".to_owned());
        }
        validate::check_elements("an expert", &[self.expert.intermediate_size, hidden_size])
    }
}

/// How experts are scored and weighted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouterSpec {
    /// From router logits to scores.
    pub score: RouterScore,
    /// Divide the chosen scores by their sum.
    pub normalize: bool,
    /// Factor on the weights.
    pub scale: Option<f64>,
    /// Whether the router's projection carries a bias.
    pub bias: bool,
}

/// From router logits to the scores that choose and weight experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RouterScore {
    /// Softmax over all experts, then the best are kept.
    Softmax,
    /// The best logits are kept, then softmax over them.
    TopkSoftmax,
    /// Sigmoid of each logit.
    Sigmoid,
}

/// An expert that sees every token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SharedExpert {
    /// Its MLP.
    pub mlp: MlpSpec,
    /// Whether its output is multiplied by `sigmoid(shared_expert_gate(x))` (Qwen2-MoE).
    pub gate: bool,
}
