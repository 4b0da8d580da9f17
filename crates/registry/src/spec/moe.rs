//! Mixtures of experts: the experts, and the router that scores, chooses and weights them.

use super::feed_forward::NO_GATE;
use super::{Declare, MlpSpec, NormSpec, ParameterRole, validate};
use serde::Serialize;

/// More experts in a layer than this are a mistake, not a model; the table of ranges in `config` has the same bound for the
/// keys that it knows.
const MOST_EXPERTS: usize = 1 << 13;

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
        to.inside("gate", |to| {
            if self.router.correction_bias {
                to.parameter("e_score_correction_bias", &[choices], router);
            }
            if let Some(norm) = &self.router.input_norm {
                norm.declare("norm", &[hidden_size], to);
            }
            if self.router.expert_scales {
                to.parameter("per_expert_scale", &[choices], router);
            }
        });
        to.repeat("experts", self.num_experts, |to| {
            self.expert.declare_gated(hidden_size, ParameterRole::ExpertProjection, to);
        });
        if let Some(shared) = &self.shared_expert {
            to.inside("shared_expert", |to| shared.mlp.declare_gated(hidden_size, ParameterRole::Projection, to));
            if shared.gate {
                to.projection("shared_expert_gate", [1, hidden_size], false, router);
            }
            if let Some(norm) = &shared.norms {
                to.inside("norms", |to| {
                    for name in ["shared_pre", "shared_post", "routed_pre", "routed_post"] {
                        norm.declare(name, &[hidden_size], to);
                    }
                });
            }
        }
    }
}

impl MoeSpec {
    pub(super) fn validate(&self, hidden_size: usize) -> Result<(), String> {
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
    /// Norm on what the router reads, and on nothing else (Gemma 4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_norm: Option<NormSpec>,
    /// Factor on what the router reads (Gemma 4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_scale: Option<f64>,
    /// Whether the weight of each expert is multiplied by a number of its own, `per_expert_scale`, in the end (Gemma 4).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expert_scales: bool,
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
            input_norm: None,
            input_scale: None,
            expert_scales: false,
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
    /// Norms before and after it, and before and after the chosen experts, while the router reads what comes in (Gemma 4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norms: Option<NormSpec>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
