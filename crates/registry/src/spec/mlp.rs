//! What is computed at each position: dense MLPs and mixtures of experts.

use serde::Serialize;

/// The MLP of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mlp {
    /// `down_proj(activation(gate_proj(x)) * up_proj(x))`.
    Gated(MlpSpec),
    /// `down_proj(activation(up_proj(x)))`.
    Plain(MlpSpec),
    /// A router chooses a few gated experts for each token.
    Moe(MoeSpec),
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
