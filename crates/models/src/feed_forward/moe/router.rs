//! Routing on the host.

use crate::linear::project;
use crate::skeleton::Skeleton;
use crate::{ModelError, Norm};
use automodel_registry::spec::{ExpertGroups, MoeSpec, Normalize, RouterScore, RouterSpec};
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, activation};

/// Scores experts and chooses some for each token.
#[derive(Module, Debug)]
pub struct Router {
    /// The projection `[num_experts, hidden_size]`; its fields stand directly under the router's name.
    pub weight: Param<Tensor<2>>,
    /// `[num_experts]`
    pub bias: Option<Param<Tensor<1>>>,
    /// `[num_experts]`: added to the scores that experts are chosen by, not to those that weight them.
    pub e_score_correction_bias: Option<Param<Tensor<1>>>,
    /// Norm on what the router reads.
    pub norm: Option<Norm>,
    /// `[num_experts]`: multiplies the weights.
    pub per_expert_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    pub(super) spec: RouterSpec,
    #[module(skip)]
    pub(super) num_experts_per_tok: usize,
}

/// The experts that one token is sent to, with their weights.
pub(super) type Choice = Vec<(usize, f32)>;

impl Router {
    pub(super) fn of(spec: &MoeSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            weight: parameters.tensor("weight")?,
            bias: parameters.optional("bias")?,
            e_score_correction_bias: parameters.optional("e_score_correction_bias")?,
            norm: spec.router.input_norm.map(|norm| parameters.norm("norm", norm)).transpose()?,
            per_expert_scale: parameters.optional("per_expert_scale")?,
            spec: spec.router.clone(),
            num_experts_per_tok: spec.num_experts_per_tok,
        })
    }

    /// Float32 logits `[tokens, num_experts]` for `x` `[tokens, hidden_size]`.
    pub(super) fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let x = Norm::apply(self.norm.as_ref(), x);
        let x = match self.spec.input_scale {
            Some(scale) => x * scale,
            None => x,
        };
        let x = if self.spec.logits_in_float32 { x.cast(DType::F32) } else { x };
        let logits = project(x, self.weight.val(), self.bias.as_ref()).cast(DType::F32);
        match self.spec.logit_softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// For each row of `x` `[tokens, hidden_size]` the chosen experts, best first.
    ///
    /// The scores are read back to the host, where the choice is made.
    pub(super) fn choose(&self, x: Tensor<2>) -> Vec<Choice> {
        let logits = self.logits(x);
        let [_, num_experts] = logits.dims();
        let scores = match self.spec.score {
            RouterScore::Softmax => activation::softmax(logits, 1),
            RouterScore::Sigmoid => activation::sigmoid(logits),
            RouterScore::TopkSoftmax | RouterScore::TopkSigmoid | RouterScore::SoftmaxNearBest { .. } => logits,
        };
        // Read back together: each reading waits for the device.
        let elements = scores.shape().num_elements();
        let row = |values: &Param<Tensor<1>>| values.val().cast(DType::F32).unsqueeze::<2>();
        let scales = self.per_expert_scale.as_ref().map(row);
        let corrected = self.e_score_correction_bias.as_ref().map(|bias| scores.clone() + row(bias));
        let is_corrected = corrected.is_some();
        let all = read(Tensor::cat([Some(scores), corrected, scales].into_iter().flatten().collect(), 0));
        let (scores, rest) = all.split_at(elements);
        let (corrected, scales) = if is_corrected { rest.split_at(elements) } else { (scores, rest) };
        let choose = |(scores, corrected)| {
            let mut choice = choose_for_one(&self.spec, self.num_experts_per_tok, scores, corrected);
            for (expert, weight) in &mut choice {
                *weight *= scales.get(*expert).copied().unwrap_or(1.0);
            }
            choice
        };
        scores.chunks_exact(num_experts).zip(corrected.chunks_exact(num_experts)).map(choose).collect()
    }
}

fn read(scores: Tensor<2>) -> Vec<f32> {
    scores.into_data().try_into_vec::<f32>().expect("scores are float32")
}

/// The experts of one token: chosen by their corrected scores, weighted by their scores.
fn choose_for_one(spec: &RouterSpec, num_experts_per_tok: usize, scores: &[f32], corrected: &[f32]) -> Choice {
    let mut order = match spec.groups {
        Some(groups) => experts_of_best_groups(groups, corrected),
        None => (0..scores.len()).collect(),
    };
    order.sort_by(|&a, &b| corrected[b].total_cmp(&corrected[a]));
    order.truncate(num_experts_per_tok);
    let mut weights: Vec<f32> = order.iter().map(|&expert| scores[expert]).collect();
    match spec.score {
        RouterScore::Softmax | RouterScore::Sigmoid => {}
        RouterScore::TopkSoftmax => {
            let largest = weights.first().copied().unwrap_or(0.0);
            weights.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
        }
        RouterScore::TopkSigmoid => weights.iter_mut().for_each(|weight| *weight = 1.0 / (1.0 + (-*weight).exp())),
        RouterScore::SoftmaxNearBest { distance } => weights = weights_near_best(distance as f32, scores, &order),
    }
    if let Some(divisor) = divisor(spec, &weights) {
        weights.iter_mut().for_each(|weight| *weight /= divisor);
    }
    if let Some(scale) = spec.scale {
        weights.iter_mut().for_each(|weight| *weight *= scale as f32);
    }
    order.into_iter().zip(weights).collect()
}

/// The experts of the groups with the largest scores, in their own order.
fn experts_of_best_groups(groups: ExpertGroups, corrected: &[f32]) -> Vec<usize> {
    let size = corrected.len() / groups.count;
    let score = |group: usize| {
        let mut best = corrected[group * size..][..size].to_vec();
        best.sort_by(|a, b| b.total_cmp(a));
        best.iter().take(groups.score.experts()).sum::<f32>()
    };
    let scores: Vec<f32> = (0..groups.count).map(score).collect();
    let mut order: Vec<usize> = (0..groups.count).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(groups.chosen);
    order.sort_unstable();
    order.into_iter().flat_map(|group| group * size..(group + 1) * size).collect()
}

/// Of each chosen expert its part of a softmax over the logits that are not better and at most a `distance` of their size worse
/// (`sparsemixer` of `modeling_phimoe.py`, without the noise of training).
fn weights_near_best(distance: f32, logits: &[f32], order: &[usize]) -> Vec<f32> {
    let weight = |(rank, &expert): (usize, &usize)| {
        let best = logits[expert];
        let is_near = |logit: f32| (best - logit) / logit.abs().max(best) <= distance || logit == best;
        let rest = logits.iter().enumerate().filter(|(other, _)| !order[..rank].contains(other));
        let sum: f32 = rest.filter(|(_, logit)| is_near(**logit)).map(|(_, logit)| (logit - best).exp()).sum();
        1.0 / sum
    };
    order.iter().enumerate().map(weight).collect()
}

/// The number that the weights are divided by.
fn divisor(spec: &RouterSpec, weights: &[f32]) -> Option<f32> {
    let sum = || weights.iter().sum::<f32>();
    match spec.normalize {
        Normalize::No => (spec.score == RouterScore::TopkSoftmax).then(sum),
        Normalize::Sum => Some(sum()),
        Normalize::SumPlus(guard) => Some(sum() + guard as f32),
        Normalize::SumAtLeast(least) => Some(sum().max(least as f32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_registry::spec::GroupScore;

    fn sigmoid() -> RouterSpec {
        RouterSpec::new(RouterScore::Sigmoid)
    }

    #[test]
    fn a_correction_decides_who_is_chosen_and_not_the_weights() {
        let scores = [0.5, 0.25, 0.75, 0.125];
        let corrected = [0.5, 1.25, 0.75, 0.125];
        assert_eq!(choose_for_one(&sigmoid(), 2, &scores, &corrected), [(1, 0.25), (2, 0.75)]);
        let scaled = RouterSpec { normalize: Normalize::Sum, scale: Some(3.0), ..sigmoid() };
        assert_eq!(choose_for_one(&scaled, 2, &scores, &corrected), [(1, 0.75), (2, 2.25)]);
    }

    #[test]
    fn experts_are_those_of_the_groups_with_the_best_two() {
        let of = |count, chosen, score| RouterSpec { groups: Some(ExpertGroups { count, chosen, score }), ..sigmoid() };
        let grouped = |count, chosen| of(count, chosen, GroupScore::BestTwo);
        // The first group has the best expert, the last one the best two, of which the third expert is no part.
        let scores = [0.875, 0.0, 0.0, 0.25, 0.25, 0.125, 0.5, 0.0, 0.5];
        let chosen = |spec| choose_for_one(&spec, 2, &scores, &scores);
        assert_eq!(chosen(grouped(3, 1)), [(6, 0.5), (8, 0.5)]);
        assert_eq!(chosen(grouped(3, 2)), [(0, 0.875), (6, 0.5)]);
        assert_eq!(chosen(of(3, 1, GroupScore::Best)), [(0, 0.875), (1, 0.0)]);
        assert_eq!(chosen(grouped(3, 3)), chosen(sigmoid()));
        // Experts outside the chosen groups are never chosen, however small the others are.
        let corrected = scores.map(|score| score - 2.0);
        let choice = choose_for_one(&grouped(3, 1), 3, &scores, &corrected);
        assert_eq!(choice, [(6, 0.5), (8, 0.5), (7, 0.0)]);
    }

    #[test]
    fn a_correction_of_logits_decides_before_the_sigmoid() {
        let spec = RouterSpec::new(RouterScore::TopkSigmoid);
        // The sigmoids of the first two are 1 in float32.
        let (logits, corrected) = ([40.0, 41.0, 0.0, -1.0], [40.0, 41.0, 0.0, 50.0]);
        assert_eq!(choose_for_one(&spec, 2, &logits, &logits), [(1, 1.0), (0, 1.0)]);
        let choice = choose_for_one(&spec, 2, &logits, &corrected);
        assert_eq!((choice[0].0, choice[1].0), (3, 1));
        assert!((choice[0].1 - 0.268_941_43).abs() < 1e-7);
    }

    #[test]
    fn weights_are_parts_of_a_softmax_over_near_logits() {
        let spec = RouterSpec::new(RouterScore::SoftmaxNearBest { distance: 0.1 });
        let chosen = |logits: &[f32]| choose_for_one(&spec, 2, logits, logits);
        // Nobody is near the best; the third is near the second, the fourth is not.
        let choice = chosen(&[2.0, 1.0, 0.95, 0.5]);
        let second = 1.0 / (1.0 + (-0.05_f32).exp());
        assert_eq!((choice[0], choice[1].0), ((0, 1.0), 1));
        assert!((choice[1].1 - second).abs() < 1e-6);
        // Negative ones are as far as a part of their own size, the larger.
        let choice = chosen(&[-1.0, -1.1, -1.2]);
        assert!((choice[0].1 - 1.0 / (1.0 + (-0.1_f32).exp())).abs() < 1e-6, "{choice:?}");
        assert_eq!(chosen(&[0.0, 0.0, -1.0]), [(0, 0.5), (1, 1.0)]);
    }

    #[test]
    fn sums_are_kept_from_zero() {
        let normalized = |normalize| {
            let spec = RouterSpec { normalize, ..sigmoid() };
            choose_for_one(&spec, 2, &[0.0, 0.0], &[0.0, 0.0])
        };
        assert_eq!(normalized(Normalize::SumPlus(1e-20)), [(0, 0.0), (1, 0.0)]);
        assert_eq!(normalized(Normalize::SumAtLeast(1e-12)), [(0, 0.0), (1, 0.0)]);
        assert!(normalized(Normalize::Sum)[0].1.is_nan());
        let halves = RouterSpec { normalize: Normalize::SumAtLeast(2.0), ..sigmoid() };
        assert_eq!(choose_for_one(&halves, 2, &[0.5, 0.25], &[0.5, 0.25]), [(0, 0.25), (1, 0.125)]);
    }
}
