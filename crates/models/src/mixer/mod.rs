//! How positions exchange information, and what that keeps of a sequence.

mod attention;
mod convert;
mod mla;
mod ropes;
mod short_conv;

pub use attention::Attention;
pub use mla::{Indexer, LatentAttention};
pub(crate) use ropes::Ropes;
pub use short_conv::{ConvState, DepthwiseConv, ShortConv};

use crate::linears::Linears;
use crate::pass::Pass;
use crate::skeleton::Skeleton;
use crate::{CacheOptions, Linear, MixerState, ModelError};
use automodel_attention::{KvCache, Positions};
use automodel_registry::spec::{AttentionMask, Mixer, QueryTemperature};
use burn::module::Module;
use burn::tensor::Tensor;

/// How positions exchange information.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "modules live in a list of branches; Burn's derive takes no box")]
pub enum MixerModule {
    /// Softmax attention.
    Attention(Attention),
    /// Softmax attention over latents.
    Mla(LatentAttention),
    /// A gated short convolution.
    ShortConv(ShortConv),
}

impl Linears for MixerModule {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        match self {
            Self::Attention(attention) => attention.for_each_linear(path, visit),
            Self::Mla(mla) => mla.for_each_linear(path, visit),
            Self::ShortConv(conv) => conv.for_each_linear(path, visit),
        }
    }
}

impl MixerModule {
    /// A mixer without values; its rotary embedding is added to `ropes`.
    pub(crate) fn new(spec: &Mixer, parameters: &Skeleton<'_>, ropes: &mut Ropes) -> Result<Self, ModelError> {
        Ok(match spec {
            Mixer::Attention(spec) => Self::Attention(Attention::new(spec, parameters, ropes)?),
            Mixer::Mla(spec) => Self::Mla(LatentAttention::new(spec, parameters, ropes)?),
            Mixer::ShortConv(spec) => Self::ShortConv(ShortConv::new(spec, parameters)?),
        })
    }

    /// An empty state.
    pub(crate) fn new_state(&self, options: &CacheOptions) -> MixerState {
        match self {
            Self::Attention(attention) => attention.new_state(options),
            Self::Mla(mla) => mla.new_state(options),
            Self::ShortConv(_) => MixerState::Conv(Box::default()),
        }
    }

    /// `[batch, length, hidden_size]` to the same; the state then holds these tokens too. `layer` is for messages.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        layer: usize,
        state: &mut MixerState,
        pass: &Pass<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        match self {
            Self::Attention(attention) => attention.forward(x, layer, state, pass),
            Self::Mla(mla) => mla.forward(x, layer, state, pass),
            Self::ShortConv(conv) => conv.forward(x, layer, state, pass),
        }
    }

    /// Whether it has kernels on the device for [`Pass::Step`].
    #[cfg(feature = "cube")]
    pub(crate) fn supports_steps(&self, device: &burn::tensor::Device) -> bool {
        match self {
            Self::Attention(attention) => attention.supports_steps(device),
            Self::Mla(_) | Self::ShortConv(_) => false,
        }
    }
}

/// An empty KV cache: rolling where a window bounds it, keeping nothing where sequences come in one pass.
fn new_kv_cache(mask: AttentionMask, options: &CacheOptions) -> KvCache {
    match (mask, options.capacity) {
        (AttentionMask::Sliding { window }, Some(capacity)) if capacity <= window => KvCache::preallocated(capacity),
        (AttentionMask::Sliding { window }, _) => KvCache::rolling(window),
        (AttentionMask::Bidirectional, _) => KvCache::none(),
        (AttentionMask::Full | AttentionMask::Chunked { .. }, Some(capacity)) => KvCache::preallocated(capacity),
        (AttentionMask::Full | AttentionMask::Chunked { .. }, None) => KvCache::growing(),
    }
}

/// Queries `[batch, heads, length, width]` with a factor that depends on their position.
fn tempered(q: Tensor<4>, temperature: Option<QueryTemperature>, positions: &Positions) -> Tensor<4> {
    let Some(temperature) = temperature else { return q };
    let [batch, _, length, _] = q.dims();
    let factor = |row: usize, index: usize| {
        let position = (positions.query_start + index).saturating_sub(positions.row_padding(row));
        (1.0 + temperature.scale * ((position + temperature.first) as f64 / temperature.floor_scale).floor().ln_1p())
            as f32
    };
    let factors: Vec<f32> = (0..batch).flat_map(|row| (0..length).map(move |index| factor(row, index))).collect();
    let factors = burn::tensor::TensorData::new(factors, [batch, 1, length, 1]);
    let device = q.device();
    let dtype = q.dtype();
    q * Tensor::<4>::from_data(factors, (&device, dtype))
}
