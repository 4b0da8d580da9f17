//! Attention, masks, rotary embeddings and KV caches for [Burn](burn), as standalone pieces.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sdpa`] | the names of the attention backends, [`resolve_sdpa_method`] and [`select_backend`] |
//! | [`mask`] | [`AttentionMask`] (full, sliding, chunked, bidirectional) and [`Positions`] (offsets and left padding) |
//! | [`attention`](mod@attention) | [`attention()`]: grouped heads, soft-cap, sinks, linear biases, any mask, any backend |
//! | [`rope`] | [`Rope`]: the rotary embeddings of transformers 5.23, and [`RopeTables`] |
//! | [`kv_cache`] | [`KvCache`]: growing, preallocated and rolling caches of keys and values |
//! | `step` | with the features `cuda` or `wgpu`: attention of one decode step over static KV caches, for captured decode (CUDA graphs) |
//!
//! Independent of model families, files and configurations.
//!
//! ```
//! use automodel_attention::{AttentionParams, AttentionMask, KvCache, Positions, SdpaBackend, attention};
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::flex();
//! let random = |heads| Tensor::<4>::random([1, heads, 5, 16], Distribution::Default, &device);
//!
//! // Five new tokens, 8 query heads in groups over 2 key-value heads.
//! let mut cache = KvCache::growing();
//! let keys = cache.append(random(2), random(2))?;
//! let params = AttentionParams::new(0.25, AttentionMask::Full);
//! let positions = Positions { key_start: keys.key_start, ..Positions::default() };
//! let output =
//!     attention(SdpaBackend::EfficientAttention, random(8), keys.k, keys.v, None, &params, &positions)?;
//! assert_eq!(output.dims(), [1, 8, 5, 16]);
//! # Ok::<(), automodel_attention::AttentionError>(())
//! ```

mod alibi;
pub mod attention;
#[cfg(test)]
mod auto_traits;
mod dispatch;
mod elementary;
mod error;
mod flex;
mod host;
pub mod kv_cache;
pub mod mask;
mod math;
mod parallel;
mod products;
pub mod rope;
pub mod sdpa;
mod softmax;
#[cfg(feature = "cube")]
pub mod step;
mod tiled;

pub use alibi::Alibi;
pub use attention::{AttentionParams, attention};
pub use error::AttentionError;
pub use kv_cache::{KeysAndValues, KvCache, rolling_capacity};
pub use mask::{AttentionMask, Positions};
pub use rope::{Rope, RopeConfig, RopePairing, RopeScaling, RopeTables};
pub use sdpa::{SdpaBackend, SdpaChoice, SdpaConstraints, SdpaMethod, resolve_sdpa_method, select_backend};

/// Helpers of the workspace's kernels for Burn's CPU backend, beside the macro `dispatched!`. Not part of the public API.
#[doc(hidden)]
pub mod kernels {
    pub use crate::elementary::exp;
    pub use crate::host::{flex_tensor, try_into_flex};
    pub use crate::parallel::for_rows;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
