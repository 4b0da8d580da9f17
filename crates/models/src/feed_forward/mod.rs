//! What a layer computes at each position.

mod mlp;
mod moe;

pub(crate) use mlp::activate;
pub use mlp::{GatedMlp, PlainMlp, Xielu};
pub use moe::{Router, SparseMoe};

use crate::linears::Linears;
use crate::skeleton::Skeleton;
use crate::{Linear, ModelError};
use automodel_registry::spec::FeedForward;
use burn::module::Module;
use burn::tensor::Tensor;

/// What a layer computes at each position.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "modules live in a list of layers; Burn's derive takes no box")]
pub enum FeedForwardModule {
    /// A gated MLP.
    Gated(GatedMlp),
    /// A plain MLP.
    Plain(PlainMlp),
    /// A mixture of experts.
    Moe(SparseMoe),
}

impl Linears for FeedForwardModule {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        match self {
            Self::Gated(mlp) => mlp.for_each_linear(path, visit),
            Self::Plain(mlp) => mlp.for_each_linear(path, visit),
            Self::Moe(moe) => moe.for_each_linear(path, visit),
        }
    }
}

impl FeedForwardModule {
    pub(crate) fn new(spec: &FeedForward, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(match spec {
            FeedForward::Gated(spec) => Self::Gated(GatedMlp::of(spec, parameters)?),
            FeedForward::Plain(spec) => Self::Plain(PlainMlp::of(spec, parameters)?),
            FeedForward::Moe(spec) => Self::Moe(SparseMoe::of(spec, parameters)?),
        })
    }

    /// `[batch, length, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let shape = x.dims();
        let rows = x.reshape([shape[0] * shape[1], shape[2]]);
        let y = match self {
            Self::Gated(mlp) => mlp.forward(rows),
            Self::Plain(mlp) => mlp.forward(rows),
            Self::Moe(moe) => moe.forward(rows),
        };
        y.reshape(shape)
    }

    /// The mixture of experts, if it is one.
    pub fn moe_mut(&mut self) -> Option<&mut SparseMoe> {
        match self {
            Self::Moe(moe) => Some(moe),
            Self::Gated(_) | Self::Plain(_) => None,
        }
    }

    /// Whether the device computes it for `tokens` tokens without reading anything back.
    #[cfg(feature = "cube")]
    pub(crate) fn stays_on_device(&self, tokens: usize) -> bool {
        match self {
            Self::Moe(moe) => moe.routes_on_device(tokens),
            Self::Gated(_) | Self::Plain(_) => true,
        }
    }
}
