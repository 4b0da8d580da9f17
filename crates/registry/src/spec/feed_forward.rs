//! What is computed at each position: dense MLPs and mixtures of experts.

use super::{Declare, NormSpec, ParameterRole, validate};
use serde::Serialize;

/// More experts in a layer than this are a mistake, not a model; the table of ranges in `config` has the same bound for the
/// keys that it knows.
const MOST_EXPERTS: usize = 1 << 13;

const NO_GATE: &str = "an activation with parameters is for MLPs without a gate";

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

    fn validate(&self) -> Result<(), String> {
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
    /// What the router chooses from: the experts, and choices that return their input.
    pub fn choices(&self) -> usize {
        self.num_experts.saturating_add(self.router.zero_experts)
    }

    /// Declares the router `gate`, `experts.0` and so on, and the shared expert with its gate.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        let (router, choices) = (ParameterRole::Router, self.choices());
        to.projection("gate", [choices, hidden_size], self.router.bias, router);
        if self.router.correction_bias {
            to.inside("gate", |to| to.parameter("e_score_correction_bias", &[choices], router));
        }
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
        let choices = self.choices();
        if self.num_experts_per_tok == 0 || self.num_experts_per_tok > choices {
            return Err(format!(
                "num_experts_per_tok is {}, but there are {choices} experts: it must be between 1 and their number",
                self.num_experts_per_tok
            ));
        }
        if choices > MOST_EXPERTS {
            return Err(format!("{choices} experts are more than any model's: correct the config"));
        }
        self.router.validate(choices, self.num_experts_per_tok)?;
        let shared = self.shared_expert.as_ref().map(|shared| &shared.mlp);
        if shared.into_iter().chain([&self.expert]).any(|mlp| mlp.activation.has_parameters()) {
            return Err(NO_GATE.to_owned());
        }
        if self.expert.sub_norm.is_some() {
            return Err("experts with a norm inside are not computed".to_owned());
        }
        self.expert.gating.validate()?;
        validate::check_elements("an expert", &[self.expert.intermediate_size, hidden_size])
    }
}

/// How experts are scored, chosen and weighted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouterSpec {
    /// From router logits to scores.
    pub score: RouterScore,
    /// Whether the chosen scores are divided by their sum.
    pub normalize: Normalize,
    /// Factor on the weights.
    pub scale: Option<f64>,
    /// Whether the router's projection carries a bias.
    pub bias: bool,
    /// Whether `e_score_correction_bias` is added to the scores that experts are chosen by; their weights are made from the scores
    /// without it (DeepSeek-V3).
    pub correction_bias: bool,
    /// Groups of experts, of which some are chosen before the experts are.
    pub groups: Option<ExpertGroups>,
    /// Compute the logits in float32, whatever the dtype of the model.
    pub logits_in_float32: bool,
    /// Choices after those of the experts, that return their input (LongCat-Flash).
    #[serde(skip_serializing_if = "is_zero")]
    pub zero_experts: usize,
    /// `cap * tanh(logits / cap)` (Laguna).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_softcap: Option<f64>,
    /// What the weights of the chosen experts multiply.
    #[serde(skip_serializing_if = "Weighted::is_default")]
    pub weighted: Weighted,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What the weights of the chosen experts multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Weighted {
    /// What the experts give.
    #[default]
    Outputs,
    /// What they are given (Llama 4).
    Inputs,
}

impl Weighted {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl RouterSpec {
    /// Scores that are weights, without biases or groups.
    pub fn new(score: RouterScore) -> Self {
        Self {
            score,
            normalize: Normalize::No,
            scale: None,
            bias: false,
            correction_bias: false,
            groups: None,
            logits_in_float32: false,
            zero_experts: 0,
            logit_softcap: None,
            weighted: Weighted::Outputs,
        }
    }

    fn validate(&self, num_experts: usize, num_experts_per_tok: usize) -> Result<(), String> {
        if self.score == RouterScore::TopkSoftmax && self.normalize != Normalize::No {
            return Err("softmax over the chosen experts is normalised already".to_owned());
        }
        if self.score == RouterScore::TopkSoftmax && (self.correction_bias || self.groups.is_some()) {
            return Err("softmax over the chosen experts has neither a correction bias nor groups".to_owned());
        }
        if self.score == RouterScore::TopkSigmoid && self.groups.is_some() {
            return Err("experts that are chosen by their logits are in no groups".to_owned());
        }
        if let RouterScore::SoftmaxNearBest { distance } = self.score {
            if !(distance >= 0.0 && distance.is_finite()) {
                return Err(format!("logits within {distance} of the best one are compared: it must not be negative"));
            }
            if self.correction_bias || self.groups.is_some() {
                return Err("softmax over the best experts has neither a correction bias nor groups".to_owned());
            }
        }
        if let Normalize::SumPlus(guard) | Normalize::SumAtLeast(guard) = self.normalize
            && !(guard >= 0.0 && guard.is_finite())
        {
            return Err(format!("the sum of the chosen scores is kept from zero by {guard}: it must not be negative"));
        }
        if self.logit_softcap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite())) {
            return Err("the soft-cap of the router's logits must be positive".to_owned());
        }
        self.groups.map_or(Ok(()), |groups| groups.validate(num_experts, num_experts_per_tok))
    }
}

/// Whether the scores of the chosen experts are divided by their sum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Normalize {
    /// They are not.
    No,
    /// By the sum.
    Sum,
    /// By the sum and a small number (DeepSeek-V3).
    SumPlus(f64),
    /// By the sum, or by this number if the sum is smaller (ERNIE 4.5).
    SumAtLeast(f64),
}

impl Normalize {
    /// The division by the sum, if `normalize` says so.
    pub fn by_sum(normalize: bool) -> Self {
        if normalize { Self::Sum } else { Self::No }
    }
}

/// Groups of consecutive experts, as many in each; experts of groups that are not chosen are not chosen either (DeepSeek-V2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ExpertGroups {
    /// Number of groups.
    pub count: usize,
    /// Number of groups that experts are chosen from.
    pub chosen: usize,
    /// By which they are chosen.
    #[serde(skip_serializing_if = "GroupScore::is_best_two")]
    pub score: GroupScore,
}

/// From the scores of the experts of a group to that of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum GroupScore {
    /// The sum of the two best (DeepSeek-V3).
    BestTwo,
    /// The best (DeepSeek-V2).
    Best,
}

impl GroupScore {
    /// Experts of a group whose scores are added.
    pub fn experts(self) -> usize {
        match self {
            Self::BestTwo => 2,
            Self::Best => 1,
        }
    }

    fn is_best_two(&self) -> bool {
        *self == Self::BestTwo
    }
}

impl ExpertGroups {
    fn validate(&self, num_experts: usize, num_experts_per_tok: usize) -> Result<(), String> {
        let Self { count, chosen, score } = *self;
        if count == 0 || !num_experts.is_multiple_of(count) || num_experts / count < score.experts() {
            return Err(format!(
                "{num_experts} experts are not {count} groups of equal size and at least {} experts",
                score.experts()
            ));
        }
        if chosen == 0 || chosen > count {
            return Err(format!("{chosen} of {count} groups of experts: it must be between 1 and their number"));
        }
        if num_experts_per_tok > chosen * (num_experts / count) {
            return Err(format!(
                "num_experts_per_tok is {num_experts_per_tok}, but the {chosen} chosen groups have {} experts",
                chosen * (num_experts / count)
            ));
        }
        Ok(())
    }
}

/// From router logits to the scores that choose and weight experts. A correction is added to what experts are chosen by: the scores where
/// all experts have one, otherwise the logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum RouterScore {
    /// Softmax over all experts, then the best are kept.
    Softmax,
    /// The best logits are kept, then softmax over them.
    TopkSoftmax,
    /// Sigmoid of each logit.
    Sigmoid,
    /// The best logits are kept, then the sigmoid of each (Kolibri).
    TopkSigmoid,
    /// The best logits are kept; each weighs what a softmax gives it over those that are not better, and worse by at most a part of their
    /// size: `(best - logit) / max(|logit|, best) <= distance` (SparseMixer).
    SoftmaxNearBest {
        /// The part.
        distance: f64,
    },
}

/// An expert that sees every token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SharedExpert {
    /// Its MLP.
    pub mlp: MlpSpec,
    /// Whether its output is multiplied by `sigmoid(shared_expert_gate(x))` (Qwen2-MoE).
    pub gate: bool,
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

    fn problem(router: RouterSpec) -> Option<String> {
        router.validate(8, 3).err()
    }

    #[test]
    fn groups_are_equal_and_have_enough_experts() {
        let grouped = |count, chosen| RouterSpec {
            groups: Some(ExpertGroups { count, chosen, score: GroupScore::BestTwo }),
            ..RouterSpec::new(RouterScore::Sigmoid)
        };
        assert_eq!(problem(grouped(1, 1)), None);
        assert_eq!(problem(grouped(4, 2)), None);
        for (count, chosen, said) in [
            (0, 1, "8 experts are not 0 groups"),
            (3, 1, "8 experts are not 3 groups"),
            (8, 4, "at least 2 experts"),
            (2, 3, "3 of 2 groups"),
            (2, 0, "0 of 2 groups"),
            (4, 1, "the 1 chosen groups have 2 experts"),
        ] {
            let found = problem(grouped(count, chosen)).unwrap();
            assert!(found.contains(said), "{found}");
        }
        let groups = ExpertGroups { count: 8, chosen: 4, score: GroupScore::Best };
        let single = RouterSpec { groups: Some(groups), ..RouterSpec::new(RouterScore::Softmax) };
        assert_eq!(problem(single), None);
    }

    #[test]
    fn routers_do_not_contradict_themselves() {
        let top = || RouterSpec::new(RouterScore::TopkSoftmax);
        let normalize = |normalize| RouterSpec { normalize, ..RouterSpec::new(RouterScore::Softmax) };
        assert_eq!(problem(top()), None);
        assert!(problem(RouterSpec { normalize: Normalize::Sum, ..top() }).unwrap().contains("normalised already"));
        assert!(problem(RouterSpec { correction_bias: true, ..top() }).unwrap().contains("correction bias"));
        assert_eq!(problem(normalize(Normalize::SumAtLeast(1e-12))), None);
        let near = |distance| RouterSpec::new(RouterScore::SoftmaxNearBest { distance });
        assert_eq!(problem(near(0.02)), None);
        assert!(problem(near(f64::NAN)).unwrap().contains("must not be negative"));
        assert!(problem(RouterSpec { correction_bias: true, ..near(0.02) }).unwrap().contains("correction bias"));
        let sigmoid = RouterSpec { correction_bias: true, ..RouterSpec::new(RouterScore::TopkSigmoid) };
        assert_eq!(problem(sigmoid.clone()), None);
        let groups = Some(ExpertGroups { count: 2, chosen: 1, score: GroupScore::BestTwo });
        assert!(problem(RouterSpec { groups, ..sigmoid }).unwrap().contains("no groups"));
        for guard in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(problem(normalize(Normalize::SumPlus(guard))).unwrap().contains("kept from zero"));
        }
    }
}
