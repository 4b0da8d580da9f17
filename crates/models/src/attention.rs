//! The attention block of a layer: projections, norms, rotation, cache and the attention itself.

use crate::{CacheOptions, LayerState, Linear, ModelError, Norm, convert, parameters};
#[cfg(feature = "cube")]
use automodel_attention::step::{self, StaticKvCache, StepHeads, StepPosition, StepRope};
use automodel_attention::{AttentionError, AttentionParams, KvCache, Positions, RopeTables, SdpaBackend, attention};
use automodel_registry::spec::{AttentionMask, AttentionSpec, QkNorm, QkNormExtent};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// Multi-head attention with its projections.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[num_attention_heads * head_dim, hidden_size]`
    pub q_proj: Linear,
    /// `[num_key_value_heads * head_dim, hidden_size]`
    pub k_proj: Linear,
    /// `[num_key_value_heads * head_dim, hidden_size]`
    pub v_proj: Linear,
    /// `[hidden_size, num_attention_heads * head_dim]`
    pub o_proj: Linear,
    /// Norm on queries.
    pub q_norm: Option<HeadNorm>,
    /// Norm on keys.
    pub k_norm: Option<HeadNorm>,
    /// `[num_attention_heads]`: one logit per head that joins the softmax.
    pub sinks: Option<Param<Tensor<1>>>,
    #[module(skip)]
    spec: AttentionSpec,
}

/// A norm over heads, with one weight for all or one for each.
#[derive(Module, Debug)]
pub enum HeadNorm {
    /// Weight `[head_dim]`, or `[heads * head_dim]` for norms over the whole projection.
    Shared(Norm<1>),
    /// Weight `[heads, head_dim]`.
    Own(Norm<2>),
}

impl HeadNorm {
    fn new(qk_norm: &QkNorm, heads: usize, head_dim: usize, device: &Device) -> Self {
        match qk_norm.extent {
            QkNormExtent::Head => Self::Shared(Norm::new(qk_norm.norm, [head_dim], device)),
            QkNormExtent::Projection => Self::Shared(Norm::new(qk_norm.norm, [heads * head_dim], device)),
            QkNormExtent::HeadOwnWeight => Self::Own(Norm::new(qk_norm.norm, [heads, head_dim], device)),
        }
    }

    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Shared(norm) => norm.forward(x),
            Self::Own(norm) => norm.forward(x),
        }
    }
}

/// What all layers of one forward pass share.
pub(crate) struct PassContext<'a> {
    pub positions: Positions,
    pub rope_tables: &'a [RopeTables],
    pub backend: SdpaBackend,
}

impl Attention {
    /// Attention without values.
    pub fn new(hidden_size: usize, spec: &AttentionSpec, device: &Device) -> Self {
        let (heads, kv_heads, dim) = (spec.num_attention_heads, spec.num_key_value_heads, spec.head_dim);
        let norm = |heads| spec.qk_norm.as_ref().map(|qk_norm| HeadNorm::new(qk_norm, heads, dim, device));
        Self {
            q_proj: Linear::new(hidden_size, heads * dim, spec.bias.q, device),
            k_proj: Linear::new(hidden_size, kv_heads * dim, spec.bias.k, device),
            v_proj: Linear::new(hidden_size, kv_heads * dim, spec.bias.v, device),
            o_proj: Linear::new(heads * dim, hidden_size, spec.bias.o, device),
            q_norm: norm(heads),
            k_norm: norm(kv_heads),
            sinks: spec.sinks.then(|| parameters::empty([heads], device)),
            spec: spec.clone(),
        }
    }

    /// An empty cache for this layer: rolling where a window bounds it.
    pub fn new_cache(&self, options: &CacheOptions) -> LayerState {
        LayerState::Attention(Box::new(match (self.spec.mask, options.capacity) {
            (AttentionMask::Sliding { window }, Some(capacity)) if capacity <= window => {
                KvCache::preallocated(capacity)
            }
            (AttentionMask::Sliding { window }, _) => KvCache::rolling(window),
            (_, Some(capacity)) => KvCache::preallocated(capacity),
            (_, None) => KvCache::growing(),
        }))
    }

    /// `[batch, length, hidden_size]` to the same; appends to `cache`.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        rope: Option<usize>,
        cache: &mut KvCache,
        context: &PassContext<'_>,
    ) -> Result<Tensor<3>, AttentionError> {
        let [batch, length, _] = x.dims();
        let (q, k, v) = self.project(x);
        let (q, k) = self.rotate(q, k, rope.and_then(|index| context.rope_tables.get(index)));
        let q = self.temper(q, &context.positions);
        let cached = cache.append(k, v)?;
        let positions = Positions { key_start: cached.key_start, ..context.positions.clone() };
        let params =
            AttentionParams { scale: self.spec.scale, softcap: self.spec.softcap, mask: convert::mask(self.spec.mask) };
        let sinks = self.sinks.as_ref().map(|sinks| sinks.val());
        let y = attention(context.backend, q, cached.k, cached.v, sinks, &params, &positions)?;
        let width = self.spec.num_attention_heads * self.spec.head_dim;
        let y = y.swap_dims(1, 2).reshape([batch * length, width]);
        let y = self.o_proj.forward(y);
        let hidden_size = y.dims()[1];
        Ok(y.reshape([batch, length, hidden_size]))
    }

    /// Queries, keys and values `[batch, heads, length, head_dim]`.
    fn project(&self, x: Tensor<3>) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let [q, k, v] = self.projections(x).map(|projected| projected.swap_dims(1, 2));
        (q, k, v)
    }

    /// Queries, keys and values `[batch, length, heads, head_dim]`.
    fn projections(&self, x: Tensor<3>) -> [Tensor<4>; 3] {
        let [batch, length, hidden_size] = x.dims();
        let rows = x.reshape([batch * length, hidden_size]);
        let whole = self.spec.qk_norm.as_ref().is_some_and(|qk_norm| qk_norm.extent == QkNormExtent::Projection);
        let project = |linear: &Linear, norm: Option<&HeadNorm>, heads: usize| {
            let y = linear.forward(rows.clone());
            let y = match norm.filter(|_| whole) {
                Some(norm) => norm.forward(y),
                None => y,
            };
            let y = match self.spec.clip_qkv {
                Some(bound) => y.clamp(-bound, bound),
                None => y,
            };
            let y = y.reshape([batch, length, heads, self.spec.head_dim]);
            let before = self.spec.qk_norm.as_ref().is_some_and(|qk_norm| !qk_norm.after_rope);
            match norm.filter(|_| !whole && before) {
                Some(norm) => norm.forward(y),
                None => y,
            }
        };
        let (heads, kv_heads) = (self.spec.num_attention_heads, self.spec.num_key_value_heads);
        [
            project(&self.q_proj, self.q_norm.as_ref(), heads),
            project(&self.k_proj, self.k_norm.as_ref(), kv_heads),
            project(&self.v_proj, None, kv_heads),
        ]
    }

    fn rotate(&self, q: Tensor<4>, k: Tensor<4>, tables: Option<&RopeTables>) -> (Tensor<4>, Tensor<4>) {
        let (q, k) = match tables {
            Some(tables) => (tables.apply(q), tables.apply(k)),
            None => (q, k),
        };
        if !self.spec.qk_norm.as_ref().is_some_and(|qk_norm| qk_norm.after_rope) {
            return (q, k);
        }
        // Heads stand before positions here, and norms with a weight per head expect them last but one.
        let norm = |norm: &Option<HeadNorm>, x: Tensor<4>| match norm {
            Some(norm) => norm.forward(x.swap_dims(1, 2)).swap_dims(1, 2),
            None => x,
        };
        (norm(&self.q_norm, q), norm(&self.k_norm, k))
    }

    /// Position-dependent factor on queries.
    fn temper(&self, q: Tensor<4>, positions: &Positions) -> Tensor<4> {
        let Some(temperature) = self.spec.query_temperature else { return q };
        let [batch, _, length, _] = q.dims();
        let factor = |row: usize, index: usize| {
            let position = (positions.query_start + index).saturating_sub(positions.row_padding(row));
            (1.0 + temperature.scale * ((position + 1) as f64 / temperature.floor_scale).floor().ln_1p()) as f32
        };
        let factors: Vec<f32> = (0..batch).flat_map(|row| (0..length).map(move |index| factor(row, index))).collect();
        let factors = burn::tensor::TensorData::new(factors, [batch, 1, length, 1]);
        let device = q.device();
        let dtype = q.dtype();
        q * Tensor::<4>::from_data(factors, (&device, dtype))
    }
}

#[cfg(feature = "cube")]
impl Attention {
    /// Whether a device has kernels for [`step`](Self::step).
    pub(crate) fn has_steps(&self, device: &Device) -> bool {
        let heads = StepHeads {
            heads: self.spec.num_attention_heads,
            kv_heads: self.spec.num_key_value_heads,
            head_dim: self.spec.head_dim,
        };
        let turns_last = !self.spec.qk_norm.as_ref().is_some_and(|qk_norm| qk_norm.after_rope);
        turns_last
            && self.spec.query_temperature.is_none()
            && step::supports(device, heads, &convert::mask(self.spec.mask))
    }

    /// [`forward`](Self::forward) for one new token of each sequence, `[batch, 1, hidden_size]`, over a cache of fixed buffers.
    pub(crate) fn step(
        &self,
        x: Tensor<3>,
        rope: Option<&StepRope>,
        cache: &mut StaticKvCache,
        at: &StepPosition,
    ) -> Result<Tensor<3>, AttentionError> {
        let [batch, _, _] = x.dims();
        let [q, k, v] = self.projections(x).map(|projected| {
            let [_, _, heads, head_dim] = projected.dims();
            projected.reshape([batch, heads * head_dim])
        });
        let params =
            AttentionParams { scale: self.spec.scale, softcap: self.spec.softcap, mask: convert::mask(self.spec.mask) };
        let sinks = self.sinks.as_ref().map(|sinks| sinks.val());
        let y = self.o_proj.forward(cache.attend(q, k, v, rope, sinks, &params, at)?);
        let hidden_size = y.dims()[1];
        Ok(y.reshape([batch, 1, hidden_size]))
    }
}

impl Attention {
    /// The state of this layer.
    pub(crate) fn cache_of(state: &mut LayerState, layer: usize) -> Result<&mut KvCache, ModelError> {
        match state {
            LayerState::Attention(cache) => Ok(cache),
            LayerState::Custom(_) => Err(ModelError::ForeignCache { layer }),
        }
    }
}
