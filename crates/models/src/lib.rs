#![doc = include_str!("../README.md")]

mod attention;
#[cfg(test)]
mod auto_traits;
mod batch;
mod cache;
mod causal_lm;
mod convert;
mod decoder;
mod error;
mod factory;
mod init;
mod kernels;
mod layer;
mod linear;
mod linears;
mod mlp;
mod moe;
mod norm;
pub mod parameters;
pub mod scope;
#[cfg(feature = "cube")]
mod step;

pub use attention::Attention;
pub use batch::TokenBatch;
pub use cache::{CustomState, DecodeCache, LayerState};
pub use causal_lm::{CacheOptions, CausalLm, LogitsFor};
pub use decoder::{Decoder, DecoderModel, DecoderOptions};
pub use error::ModelError;
pub use factory::{BuildContext, ModelFactories, ModelFactory};
pub use init::initialize_random;
pub use layer::{DecoderLayer, FeedForward, MixerModule};
pub use linear::{Linear, Weight};
pub use mlp::{GatedMlp, PlainMlp};
pub use moe::{Router, SparseMoe};
pub use norm::Norm;
#[cfg(feature = "cube")]
pub use step::CapturedDecode;
