//! One layer: branches off the residual stream.

mod embedding;
mod module;
#[cfg(test)]
mod tests;

pub use embedding::LayerEmbedding;

use crate::linears::Linears;
use crate::mixer::Ropes;
use crate::pass::Pass;
use crate::skeleton::Skeleton;
use crate::{CacheOptions, FeedForwardModule, Linear, MixerModule, MixerState, ModelError, Norm, kernels};
use automodel_registry::spec::{Branch, BranchInput, LayerSpec, NamedNorm, Operation};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// Branches off the residual stream, each with an operation and its norms. Parameters have the names that the specification
/// gives to branches and norms: `self_attn.q_proj.weight`, `input_layernorm.weight`.
#[derive(Clone, Debug)]
pub struct Layer {
    branches: Vec<BranchModule>,
    /// `[1]`: multiplies what leaves the layer.
    scalar: Option<Param<Tensor<1>>>,
    index: usize,
}

/// `post_add(residual + scale * post(operation(pre(input))))`
#[derive(Clone, Debug)]
pub struct BranchModule {
    name: &'static str,
    input: BranchInput,
    pre: Option<NormModule>,
    operation: OperationModule,
    post: Option<NormModule>,
    scale: Option<f64>,
    post_add: Option<NormModule>,
    /// Whether a later branch reads the same input.
    shares_input: bool,
    /// The mixer's number among those of the model, which is that of its state.
    state: usize,
}

/// A norm with its name in the layer.
#[derive(Clone, Debug)]
struct NormModule {
    name: &'static str,
    norm: Norm,
}

/// What a branch computes.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "modules live in a list of branches; Burn's derive takes no box")]
pub enum OperationModule {
    /// Positions exchange information.
    Mix(MixerModule),
    /// Each position by itself.
    Feed(FeedForwardModule),
    /// Each position takes up the embedding that its token has for this layer.
    LayerEmbedding(LayerEmbedding),
}

impl Linears for Layer {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        for (name, operation) in self.operations_mut() {
            let path = [path, ".", name].concat();
            match operation {
                OperationModule::Mix(mixer) => mixer.for_each_linear(&path, visit),
                OperationModule::Feed(feed) => feed.for_each_linear(&path, visit),
                OperationModule::LayerEmbedding(embedding) => embedding.for_each_linear(&path, visit),
            }
        }
    }
}

impl Layer {
    /// A layer without values, number `index` of the model, whose first mixer has the state `first_state`.
    pub(crate) fn new(
        spec: &LayerSpec,
        index: usize,
        first_state: usize,
        parameters: &Skeleton<'_>,
        ropes: &mut Ropes,
    ) -> Result<Self, ModelError> {
        let mut state = first_state;
        let mut branches = Vec::with_capacity(spec.branches.len());
        for (number, branch) in spec.branches.iter().enumerate() {
            let operation = OperationModule::new(&branch.operation, &parameters.at(branch.name), ropes)?;
            let own = state;
            state += usize::from(matches!(operation, OperationModule::Mix(_)));
            branches.push(BranchModule {
                shares_input: spec.branches.iter().any(|later| later.input == BranchInput::SameAs(number)),
                ..BranchModule::new(branch, operation, own, parameters)?
            });
        }
        let scalar = spec.scalar.then(|| parameters.tensor("layer_scalar")).transpose()?;
        Ok(Self { branches, scalar, index })
    }

    /// The operation of the branch called `name`.
    pub fn operation(&self, name: &str) -> Option<&OperationModule> {
        self.branches.iter().find(|branch| branch.name == name).map(|branch| &branch.operation)
    }

    /// The operations of all branches, with their names.
    pub fn operations_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut OperationModule)> {
        self.branches.iter_mut().map(|branch| (branch.name, &mut branch.operation))
    }

    /// The mixers of all branches.
    pub fn mixers(&self) -> impl Iterator<Item = &MixerModule> {
        self.branches.iter().filter_map(|branch| match &branch.operation {
            OperationModule::Mix(mixer) => Some(mixer),
            OperationModule::Feed(_) | OperationModule::LayerEmbedding(_) => None,
        })
    }

    /// Packs the weights of experts, where that helps their device.
    pub(crate) fn pack_experts(&mut self) {
        for (_, operation) in self.operations_mut() {
            let OperationModule::Feed(feed) = operation else { continue };
            let Some(moe) = feed.moe_mut() else { continue };
            let device = moe.gate.weight.lazy_device();
            moe.stack_experts();
            // The memory that the weights were copied from is freed before the next layer is copied.
            if device != Device::flex() && device.sync().is_ok() {
                device.memory_cleanup();
            }
        }
    }

    /// Empty states of the mixers.
    pub(crate) fn new_states(&self, options: &CacheOptions) -> impl Iterator<Item = MixerState> {
        self.mixers().map(|mixer| mixer.new_state(options))
    }

    /// Whether it can compute one token of each of `tokens` sequences without reading anything back from the device.
    #[cfg(feature = "cube")]
    pub(crate) fn supports_steps(&self, device: &Device, tokens: usize) -> bool {
        self.branches.iter().all(|branch| match &branch.operation {
            OperationModule::Mix(mixer) => mixer.supports_steps(device),
            OperationModule::Feed(feed) => feed.stays_on_device(tokens),
            OperationModule::LayerEmbedding(_) => false,
        })
    }

    /// `[batch, length, hidden_size]` to the same. `states` are those of all mixers of the model.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        states: &mut [MixerState],
        pass: &Pass<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let mut residual = x;
        // Results are added where a later branch reads them, and at the end: parallel branches need no copy of the stream.
        let mut pending: Vec<(Tensor<3>, Option<f64>)> = Vec::with_capacity(self.branches.len());
        let mut layer_input = None;
        let mut inputs = vec![None; self.branches.len()];
        for (number, branch) in self.branches.iter().enumerate() {
            let input = match branch.input {
                BranchInput::SameAs(other) => inputs.get(other).cloned().flatten().ok_or_else(|| unshared(other))?,
                BranchInput::LayerInput => branch.norm_input(layer_input.as_ref().unwrap_or(&residual).clone()),
                BranchInput::Residual => {
                    if !pending.is_empty() && layer_input.is_none() && self.reads_layer_input_from(number) {
                        layer_input = Some(residual.clone());
                    }
                    residual = add_all(residual, &mut pending);
                    branch.norm_input(residual.clone())
                }
            };
            if branch.shares_input
                && let Some(kept) = inputs.get_mut(number)
            {
                *kept = Some(input.clone());
            }
            let result = match &branch.operation {
                OperationModule::Mix(mixer) => {
                    let state = states.get_mut(branch.state).ok_or(ModelError::ForeignCache { layer: self.index })?;
                    mixer.forward(input, self.index, state, pass)?
                }
                OperationModule::Feed(feed) => feed.forward(input),
                OperationModule::LayerEmbedding(embedding) => embedding.forward(input, self.index, pass)?,
            };
            pending.push((branch.norm_result(result), branch.scale));
            if let Some(NormModule { norm, .. }) = &branch.post_add {
                if layer_input.is_none() && self.reads_layer_input_from(number + 1) {
                    layer_input = Some(residual.clone());
                }
                residual = norm.forward(add_all(residual, &mut pending));
            }
        }
        let y = add_all(residual, &mut pending);
        Ok(match &self.scalar {
            Some(scalar) => y.clone() * scalar.val().cast(y.dtype()).reshape([1, 1, 1]),
            None => y,
        })
    }

    fn reads_layer_input_from(&self, branch: usize) -> bool {
        self.branches.iter().skip(branch).any(|branch| branch.input == BranchInput::LayerInput)
    }
}

impl BranchModule {
    fn new(
        spec: &Branch,
        operation: OperationModule,
        state: usize,
        parameters: &Skeleton<'_>,
    ) -> Result<Self, ModelError> {
        let norm = |norm: &Option<NamedNorm>| -> Result<_, ModelError> {
            let Some(NamedNorm { name, norm }) = *norm else { return Ok(None) };
            Ok(Some(NormModule { name, norm: parameters.norm(name, norm)? }))
        };
        Ok(Self {
            name: spec.name,
            input: spec.input,
            pre: norm(&spec.pre)?,
            operation,
            post: norm(&spec.post)?,
            scale: spec.scale,
            post_add: norm(&spec.post_add)?,
            shares_input: false,
            state,
        })
    }

    fn norm_input(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.pre {
            Some(pre) => pre.norm.forward(x),
            None => x,
        }
    }

    fn norm_result(&self, y: Tensor<3>) -> Tensor<3> {
        match &self.post {
            Some(post) => post.norm.forward(y),
            None => y,
        }
    }
}

impl OperationModule {
    fn new(spec: &Operation, parameters: &Skeleton<'_>, ropes: &mut Ropes) -> Result<Self, ModelError> {
        Ok(match spec {
            Operation::Mix(mixer) => Self::Mix(MixerModule::new(mixer, parameters, ropes)?),
            Operation::Feed(feed) => Self::Feed(FeedForwardModule::new(feed, parameters)?),
            Operation::LayerEmbedding(spec) => Self::LayerEmbedding(LayerEmbedding::of(spec, parameters)?),
        })
    }
}

/// Adds the results of branches, each with its factor.
fn add_all(residual: Tensor<3>, pending: &mut Vec<(Tensor<3>, Option<f64>)>) -> Tensor<3> {
    pending.drain(..).fold(residual, |residual, (branch, scale)| add(residual, branch, scale))
}

fn add(residual: Tensor<3>, branch: Tensor<3>, scale: Option<f64>) -> Tensor<3> {
    kernels::add_scaled(residual, &branch, scale).unwrap_or_else(|residual| match scale {
        Some(scale) => residual + branch * scale,
        None => residual + branch,
    })
}

fn unshared(branch: usize) -> ModelError {
    ModelError::UnsupportedSpec {
        reason: format!("a branch reads the input of branch {branch}, which does not come before it"),
    }
}
