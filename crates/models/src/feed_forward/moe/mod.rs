//! Sparse mixtures of experts.

#[cfg(feature = "cube")]
mod gpu;
mod router;
#[cfg(feature = "cube")]
mod stacks;

use crate::linears::Linears;
use crate::skeleton::{self, Skeleton};
use crate::{GatedMlp, Linear, ModelError, Norm};
use automodel_registry::spec::{MoeSpec, NormSpec, Weighted};
use burn::module::Module;
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData, activation};
use router::Choice;
pub use router::Router;

/// Experts, their router and a shared expert.
#[derive(Module, Debug)]
pub struct SparseMoe {
    /// The router.
    pub gate: Router,
    /// The experts.
    pub(crate) experts: Vec<GatedMlp>,
    /// Sees every token.
    pub shared_expert: Option<GatedMlp>,
    /// `[1, hidden_size]`: `sigmoid` of it weights the shared expert.
    pub shared_expert_gate: Option<Linear>,
    /// Norms around the shared expert and around the chosen ones.
    pub norms: Option<MoeNorms>,
    #[cfg(feature = "cube")]
    stacks: stacks::Stacks,
}

/// Norms before and after the shared expert, and before and after the chosen ones.
#[derive(Module, Debug)]
pub struct MoeNorms {
    /// On what the shared expert reads.
    pub shared_pre: Norm,
    /// On what it gives.
    pub shared_post: Norm,
    /// On what the chosen experts read.
    pub routed_pre: Norm,
    /// On the weighted sum of what they give.
    pub routed_post: Norm,
}

impl MoeNorms {
    fn of(spec: NormSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            shared_pre: parameters.norm("shared_pre", spec)?,
            shared_post: parameters.norm("shared_post", spec)?,
            routed_pre: parameters.norm("routed_pre", spec)?,
            routed_post: parameters.norm("routed_post", spec)?,
        })
    }
}

impl Linears for SparseMoe {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        for (index, expert) in self.experts_mut().iter_mut().enumerate() {
            expert.for_each_linear(&format!("{path}.experts.{index}"), visit);
        }
        if let Some(shared) = &mut self.shared_expert {
            shared.for_each_linear(&format!("{path}.shared_expert"), visit);
        }
        if let Some(gate) = &mut self.shared_expert_gate {
            visit(&format!("{path}.shared_expert_gate"), gate);
        }
    }
}

impl SparseMoe {
    /// A mixture without values.
    ///
    /// # Errors
    /// [`ModelError::UnsupportedSpec`] for a specification that contradicts itself.
    pub fn new(hidden_size: usize, spec: &MoeSpec, device: &Device) -> Result<Self, ModelError> {
        skeleton::build(|to| spec.declare(hidden_size, to), device, |parameters| Self::of(spec, parameters))
    }

    pub(crate) fn of(spec: &MoeSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        let expert = |index: usize| GatedMlp::of(&spec.expert, &parameters.at(&format!("experts.{index}")));
        let shared = spec.shared_expert.as_ref();
        let gate = shared.filter(|shared| shared.gate).map(|_| parameters.linear("shared_expert_gate"));
        let norms = shared.and_then(|shared| shared.norms).map(|norm| MoeNorms::of(norm, &parameters.at("norms")));
        let shared = shared.map(|shared| GatedMlp::of(&shared.mlp, &parameters.at("shared_expert")));
        Ok(Self {
            gate: Router::of(spec, &parameters.at("gate"))?,
            experts: (0..spec.num_experts).map(expert).collect::<Result<_, _>>()?,
            shared_expert: shared.transpose()?,
            shared_expert_gate: gate.transpose()?,
            norms: norms.transpose()?,
            #[cfg(feature = "cube")]
            stacks: stacks::Stacks::default(),
        })
    }

    /// The experts.
    pub fn experts(&self) -> &[GatedMlp] {
        &self.experts
    }

    /// The experts, each to be changed on its own from now on: see [`stack_experts`](Self::stack_experts).
    pub fn experts_mut(&mut self) -> &mut [GatedMlp] {
        #[cfg(feature = "cube")]
        {
            self.stacks = stacks::Stacks::default();
        }
        &mut self.experts
    }

    /// Packs the weights of the experts into one buffer of their device, if that is a GPU, so that few tokens are routed without
    /// the host. Weights that differ in encoding stay where they are, as do experts with biases. On devices
    /// without kernels nothing happens.
    pub fn stack_experts(&mut self) {
        #[cfg(feature = "cube")]
        {
            self.stacks = stacks::Stacks::new(&mut self.experts);
        }
    }

    /// Whether [`stack_experts`](Self::stack_experts) has packed the experts.
    pub fn is_stacked(&self) -> bool {
        #[cfg(feature = "cube")]
        return self.stacks.is_some();
        #[cfg(not(feature = "cube"))]
        false
    }

    /// Whether the device routes `tokens` tokens to their experts by itself.
    #[cfg(feature = "cube")]
    pub(crate) fn routes_on_device(&self, tokens: usize) -> bool {
        self.stacks.supports(tokens, self)
    }

    /// `[tokens, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let normed = |norm: fn(&MoeNorms) -> &Norm, x: Tensor<2>| Norm::apply(self.norms.as_ref().map(norm), x);
        let routed = normed(|norms| &norms.routed_post, self.routed(&x));
        match &self.shared_expert {
            Some(shared) => {
                let y = shared.forward(normed(|norms| &norms.shared_pre, x.clone()));
                let y = normed(|norms| &norms.shared_post, y);
                routed
                    + match &self.shared_expert_gate {
                        Some(gate) => activation::sigmoid(gate.forward(x)) * y,
                        None => y,
                    }
            }
            None => routed,
        }
    }

    /// The weighted sum of what the chosen experts make of each token.
    fn routed(&self, x: &Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "cube")]
        if let Some(y) = self.stacks.forward(self, x) {
            return y;
        }
        let choices = self.gate.choose(x.clone());
        let x = Norm::apply(self.norms.as_ref().map(|norms| &norms.routed_pre), x.clone());
        match choices.as_slice() {
            [only] => self.for_one_token(x, only),
            _ => self.for_tokens(x, &choices),
        }
    }

    fn for_one_token(&self, x: Tensor<2>, choice: &Choice) -> Tensor<2> {
        let of_expert = |&(expert, weight): &(usize, f32)| {
            let mlp = self.experts.get(expert);
            // A choice after those of the experts returns its input.
            let forward = |x: Tensor<2>| mlp.map_or_else(|| x.clone(), |mlp| mlp.forward(x.clone()));
            match self.gate.spec.weighted {
                Weighted::Outputs => forward(x.clone()) * weight,
                Weighted::Inputs => forward(x.clone() * weight),
            }
        };
        choice.iter().map(of_expert).reduce(|sum, y| sum + y).unwrap_or_else(|| x.zeros_like())
    }

    /// Each expert runs once over the tokens that were sent to it.
    fn for_tokens(&self, x: Tensor<2>, choices: &[Choice]) -> Tensor<2> {
        let device = x.device();
        // Choices after the experts return their input.
        let mut tokens_of = vec![(Vec::new(), Vec::new()); self.experts.len() + self.gate.spec.zero_experts];
        for (token, choice) in choices.iter().enumerate() {
            for &(expert, weight) in choice {
                tokens_of[expert].0.push(token as i64);
                tokens_of[expert].1.push(weight);
            }
        }
        let mut sum = x.zeros_like();
        for (expert, (tokens, weights)) in tokens_of.into_iter().enumerate() {
            let count = tokens.len();
            if count == 0 {
                continue;
            }
            let rows = Tensor::<1, Int>::from_data(TensorData::new(tokens, [count]), &device);
            let weights = Tensor::<2>::from_data(TensorData::new(weights, [count, 1]), (&device, DType::F32));
            let input = x.clone().select(0, rows.clone());
            let weights = weights.cast(input.dtype());
            let forward = |x: Tensor<2>| match self.experts.get(expert) {
                Some(expert) => expert.forward(x),
                None => x,
            };
            let y = match self.gate.spec.weighted {
                Weighted::Outputs => forward(input) * weights,
                Weighted::Inputs => forward(input * weights),
            };
            sum = sum.select_assign(0, rows, y, IndexingUpdateOp::Add);
        }
        sum
    }
}
