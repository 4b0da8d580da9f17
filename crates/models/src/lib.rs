#![doc = include_str!("../README.md")]

#[cfg(test)]
mod auto_traits;
mod backbone;
mod batch;
mod cache;
#[cfg(feature = "cube")]
mod captured;
mod causal_lm;
mod decoder;
mod encoder;
mod error;
mod factory;
mod feed_forward;
mod generic;
mod head;
mod init;
mod kernels;
mod layer;
mod linear;
mod linears;
mod mixer;
mod model;
mod norm;
pub mod parameters;
mod pass;
pub mod scope;
mod sinusoids;
mod skeleton;

pub use backbone::{Backbone, Embedding, ModelOptions};
pub use batch::TokenBatch;
pub use cache::{CustomState, DecodeCache, MixerState};
#[cfg(feature = "cube")]
pub use captured::CapturedDecode;
pub use causal_lm::{CacheOptions, CausalLm, LogitsFor};
pub use decoder::Decoder;
pub use encoder::{BackboneEncoder, Encoder};
pub use error::ModelError;
pub use factory::{BuildContext, ModelFactories, ModelFactory};
pub use feed_forward::{FeedForwardModule, GatedMlp, PlainMlp, Router, SparseMoe, Xielu};
pub use head::HeadTransform;
pub use init::initialize_random;
pub use layer::{BranchModule, Layer, OperationModule};
pub use linear::{Linear, Weight};
pub use mixer::{Attention, ConvState, DepthwiseConv, Indexer, LatentAttention, MixerModule, ShortConv};
pub use model::Model;
pub use norm::Norm;
