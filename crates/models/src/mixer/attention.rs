//! The attention block of a layer: projections, norms, rotation, cache and the attention itself.

use super::{Ropes, convert, new_kv_cache, tempered};
use crate::linears::{Linears, linears};
use crate::pass::Pass;
use crate::skeleton::Skeleton;
use crate::{CacheOptions, Linear, MixerState, ModelError, Norm};
#[cfg(feature = "cube")]
use automodel_attention::step::{self, StaticKvCache, StepHeads, StepPosition, StepRope};
use automodel_attention::{
    Alibi, AttentionError, AttentionParams, KeysAndValues, KvCache, Positions, RopeTables, SdpaBackend, attention,
};
use automodel_registry::spec::{AttentionSpec, GateActivation, KeyValues, QkNorm, QkNormExtent};
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, activation};

/// Multi-head attention with its projections.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[num_attention_heads * head_dim, hidden_size]`
    pub q_proj: Linear,
    /// `[num_key_value_heads * head_dim, hidden_size]`; absent where keys and values are those of another layer.
    pub k_proj: Option<Linear>,
    /// `[num_key_value_heads * value_dim, hidden_size]`; absent too where values are keys.
    pub v_proj: Option<Linear>,
    /// `[hidden_size, num_attention_heads * value_dim]`
    pub o_proj: Linear,
    /// `[num_attention_heads * value_dim, hidden_size]`, or `[num_attention_heads, hidden_size]`: gates on the output.
    pub gate_proj: Option<Linear>,
    /// Norm on queries.
    pub q_norm: Option<HeadNorm>,
    /// Norm on keys.
    pub k_norm: Option<HeadNorm>,
    /// Norm on the values of each head.
    pub v_norm: Option<Norm>,
    /// `[num_attention_heads]`: one logit per head that joins the softmax.
    pub sinks: Option<Param<Tensor<1>>>,
    /// Norm on the result of all heads.
    pub attn_sub_norm: Option<Norm>,
    /// The rotary embedding among those of the model.
    #[module(skip)]
    rope: Option<usize>,
    #[module(skip)]
    spec: AttentionSpec,
}

linears!(Attention {
    q_proj, o_proj [k_proj, v_proj, gate_proj]; q_norm, k_norm, v_norm, sinks, attn_sub_norm, rope, spec
});

/// A norm over heads, with one weight for all or one for each.
#[derive(Module, Debug)]
pub enum HeadNorm {
    /// Weight `[head_dim]`, or `[heads * head_dim]` for norms over the whole projection.
    Shared(Norm<1>),
    /// Weight `[heads, head_dim]`.
    Own(Norm<2>),
}

impl HeadNorm {
    fn of(name: &str, qk_norm: &QkNorm, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(match qk_norm.extent {
            QkNormExtent::Head | QkNormExtent::Projection => Self::Shared(parameters.norm(name, qk_norm.norm)?),
            QkNormExtent::HeadOwnWeight => Self::Own(parameters.norm(name, qk_norm.norm)?),
        })
    }

    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Shared(norm) => norm.forward(x),
            Self::Own(norm) => norm.forward(x),
        }
    }
}

/// The input of an attention, `[batch * length, hidden_size]`.
struct Rows {
    x: Tensor<2>,
    batch: usize,
    length: usize,
}

impl Rows {
    fn of(x: Tensor<3>) -> Self {
        let [batch, length, hidden_size] = x.dims();
        Self { x: x.reshape([batch * length, hidden_size]), batch, length }
    }
}

impl Attention {
    /// Attention without values; its rotary embedding is added to `ropes`.
    pub(crate) fn new(spec: &AttentionSpec, parameters: &Skeleton<'_>, ropes: &mut Ropes) -> Result<Self, ModelError> {
        let norm = |name| spec.qk_norm.as_ref().map(|qk_norm| HeadNorm::of(name, qk_norm, parameters)).transpose();
        let own = spec.key_values.are_own();
        let projected = spec.key_values == KeyValues::Projected;
        Ok(Self {
            q_proj: parameters.linear("q_proj")?,
            k_proj: own.then(|| parameters.linear("k_proj")).transpose()?,
            v_proj: projected.then(|| parameters.linear("v_proj")).transpose()?,
            o_proj: parameters.linear("o_proj")?,
            gate_proj: spec.output_gate.map(|_| parameters.linear("gate_proj")).transpose()?,
            q_norm: norm("q_norm")?,
            k_norm: if own { norm("k_norm")? } else { None },
            v_norm: spec.value_norm.map(|norm| parameters.norm("v_norm", norm)).transpose()?,
            sinks: parameters.optional("sinks")?,
            attn_sub_norm: spec.sub_norm.map(|norm| parameters.norm("attn_sub_norm", norm)).transpose()?,
            rope: spec.rope.as_ref().map(|rope| ropes.index_of(spec.head_dim, rope)),
            spec: spec.clone(),
        })
    }

    /// An empty KV cache; it keeps nothing where another layer keeps keys and values.
    pub(crate) fn new_state(&self, options: &CacheOptions) -> MixerState {
        let is_own = self.spec.key_values.are_own();
        let cache = if is_own { new_kv_cache(self.spec.mask, options) } else { KvCache::none() };
        MixerState::Attention(Box::new(cache))
    }

    /// `[batch, length, hidden_size]` to the same; appends to the KV cache.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        layer: usize,
        state: &mut MixerState,
        pass: &Pass<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let result = match (pass, state) {
            (Pass::Tokens { positions, ropes, backend, key_values, .. }, MixerState::Attention(cache)) => {
                let rope = self.rope.and_then(|index| ropes.get(index));
                let rows = Rows::of(x);
                let keys = match self.spec.key_values {
                    KeyValues::OfLayer(source) => key_values.get(source).ok_or(ModelError::ForeignCache { layer })?,
                    KeyValues::Projected | KeyValues::OneProjection => {
                        let keys = self.append(&rows, layer, rope, cache)?;
                        key_values.keep(layer, &keys);
                        keys
                    }
                };
                self.attend(&rows, rope, keys, positions, *backend)
            }
            #[cfg(feature = "cube")]
            (Pass::Step { at, ropes }, MixerState::FixedAttention(cache)) => {
                let rows = Rows::of(x);
                let keys = self.keys_and_values(&rows).ok_or(ModelError::ForeignCache { layer })?;
                self.step(&rows, keys, self.rope.and_then(|index| ropes.get(index)), cache, at)
            }
            _ => return Err(ModelError::ForeignCache { layer }),
        };
        result.map_err(|source| ModelError::Attention { layer, source: Box::new(source) })
    }

    /// Appends the keys and values of these positions to the KV cache; returns all that they attend to.
    fn append(
        &self,
        rows: &Rows,
        layer: usize,
        rope: Option<&RopeTables>,
        cache: &mut KvCache,
    ) -> Result<KeysAndValues, ModelError> {
        let [k, v] = self.keys_and_values(rows).ok_or(ModelError::ForeignCache { layer })?;
        let k = self.rotate(k.swap_dims(1, 2), self.k_norm.as_ref(), rope);
        cache.append(k, v.swap_dims(1, 2)).map_err(|source| ModelError::Attention { layer, source: Box::new(source) })
    }

    fn attend(
        &self,
        rows: &Rows,
        rope: Option<&RopeTables>,
        keys: KeysAndValues,
        positions: &Positions,
        backend: SdpaBackend,
    ) -> Result<Tensor<3>, AttentionError> {
        let q = self.rotate(self.queries(rows).swap_dims(1, 2), self.q_norm.as_ref(), rope);
        let q = tempered(q, self.spec.query_temperature, positions);
        let positions = Positions { key_start: keys.key_start, ..positions.clone() };
        let sinks = self.sinks.as_ref().map(|sinks| sinks.val());
        let y = attention(backend, q, keys.k, keys.v, sinks, &self.params(), &positions)?;
        let (heads, value_dim) = (self.spec.num_attention_heads, self.spec.value_dim());
        let y = y.swap_dims(1, 2).reshape([rows.batch * rows.length, heads * value_dim]);
        let y = match self.gate(rows) {
            Some(factors) => gated(y, factors, heads),
            None => y,
        };
        let y = self.project_result(y);
        let hidden_size = y.dims()[1];
        Ok(y.reshape([rows.batch, rows.length, hidden_size]))
    }

    /// The result of all heads, `[rows, num_attention_heads * value_dim]`, to `[rows, hidden_size]`.
    fn project_result(&self, y: Tensor<2>) -> Tensor<2> {
        self.o_proj.forward(Norm::apply(self.attn_sub_norm.as_ref(), y))
    }

    fn params(&self) -> AttentionParams {
        let spec = &self.spec;
        let alibi = spec.alibi.map(|alibi| Alibi {
            factor: if alibi.before_scale { spec.scale } else { 1.0 },
            in_bfloat16: alibi.in_bfloat16,
        });
        AttentionParams { scale: spec.scale, softcap: spec.softcap, mask: convert::mask(spec.mask), alibi }
    }

    /// Factors on the output `[batch * length, gates]`, where it is gated.
    fn gate(&self, rows: &Rows) -> Option<Tensor<2>> {
        let (gate, linear) = self.spec.output_gate.zip(self.gate_proj.as_ref())?;
        let y = linear.forward(rows.x.clone());
        Some(match gate.activation {
            GateActivation::Sigmoid => activation::sigmoid(y),
            GateActivation::Softplus => {
                let dtype = y.dtype();
                let y = y.cast(DType::F32);
                // `ln(1 + exp(y))`, without overflow.
                ((-y.clone().abs()).exp().log1p() + activation::relu(y)).cast(dtype)
            }
        })
    }

    /// Queries `[batch, length, heads, head_dim]`.
    fn queries(&self, rows: &Rows) -> Tensor<4> {
        let projected = self.q_proj.forward(rows.x.clone());
        self.heads(projected, self.q_norm.as_ref(), rows, [self.spec.num_attention_heads, self.spec.head_dim])
    }

    /// Keys `[batch, length, kv_heads, head_dim]` and values `[batch, length, kv_heads, value_dim]`; `None` where they are those of another layer.
    fn keys_and_values(&self, rows: &Rows) -> Option<[Tensor<4>; 2]> {
        let kv_heads = self.spec.num_key_value_heads;
        let k = self.k_proj.as_ref()?.forward(rows.x.clone());
        let v = match &self.v_proj {
            Some(v_proj) => v_proj.forward(rows.x.clone()),
            None => k.clone(),
        };
        let v = self.heads(v, None, rows, [kv_heads, self.spec.value_dim()]);
        let v = Norm::apply(self.v_norm.as_ref(), v);
        let v = match self.spec.value_scale {
            Some(scale) => v * scale,
            None => v,
        };
        Some([self.heads(k, self.k_norm.as_ref(), rows, [kv_heads, self.spec.head_dim]), v])
    }

    /// Projected rows as heads, clipped, and normalised unless that comes after the rotation.
    fn heads(&self, y: Tensor<2>, norm: Option<&HeadNorm>, rows: &Rows, [heads, width]: [usize; 2]) -> Tensor<4> {
        let whole = self.spec.qk_norm.as_ref().is_some_and(|qk_norm| qk_norm.extent == QkNormExtent::Projection);
        let y = match norm.filter(|_| whole) {
            Some(norm) => norm.forward(y),
            None => y,
        };
        let y = match self.spec.clip_qkv {
            Some(bound) => y.clamp(-bound, bound),
            None => y,
        };
        let y = y.reshape([rows.batch, rows.length, heads, width]);
        let before = self.spec.qk_norm.as_ref().is_some_and(|qk_norm| !qk_norm.after_rope);
        match norm.filter(|_| !whole && before) {
            Some(norm) => norm.forward(y),
            None => y,
        }
    }

    /// Rotates queries or keys `[batch, heads, length, head_dim]`.
    fn rotate(&self, x: Tensor<4>, norm: Option<&HeadNorm>, tables: Option<&RopeTables>) -> Tensor<4> {
        let x = match tables {
            Some(tables) => tables.apply(x),
            None => x,
        };
        let after = self.spec.qk_norm.as_ref().is_some_and(|qk_norm| qk_norm.after_rope);
        match norm.filter(|_| after) {
            // Heads stand before positions here, and norms with a weight per head expect them last but one.
            Some(norm) => norm.forward(x.swap_dims(1, 2)).swap_dims(1, 2),
            None => x,
        }
    }
}

/// `[rows, width]` times factors `[rows, width]`, or `[rows, heads]`.
fn gated(y: Tensor<2>, factors: Tensor<2>, heads: usize) -> Tensor<2> {
    let [rows, width] = y.dims();
    if factors.dims() == [rows, width] {
        return y * factors;
    }
    let y = y.reshape([rows, heads, width / heads]) * factors.reshape([rows, heads, 1]);
    y.reshape([rows, width])
}

#[cfg(feature = "cube")]
impl Attention {
    /// Whether the device has kernels for [`Pass::Step`].
    pub(crate) fn supports_steps(&self, device: &burn::tensor::Device) -> bool {
        let heads = StepHeads {
            heads: self.spec.num_attention_heads,
            kv_heads: self.spec.num_key_value_heads,
            head_dim: self.spec.head_dim,
        };
        let rotates_last = !self.spec.qk_norm.as_ref().is_some_and(|qk_norm| qk_norm.after_rope);
        let plain = self.spec.key_values == KeyValues::Projected && self.spec.value_norm.is_none();
        rotates_last
            && plain
            && self.spec.query_temperature.is_none()
            && self.spec.alibi.is_none()
            && self.spec.output_gate.is_none()
            && self.spec.value_dim() == self.spec.head_dim
            && step::supports(device, heads, &convert::mask(self.spec.mask))
    }

    /// [`attend`](Self::attend) for one new token of each sequence, `[batch, 1, hidden_size]`, over a cache of fixed buffers.
    fn step(
        &self,
        rows: &Rows,
        [k, v]: [Tensor<4>; 2],
        rope: Option<&StepRope>,
        cache: &mut StaticKvCache,
        at: &StepPosition,
    ) -> Result<Tensor<3>, AttentionError> {
        let batch = rows.batch;
        let flat = |projected: Tensor<4>| {
            let [_, _, heads, head_dim] = projected.dims();
            projected.reshape([batch, heads * head_dim])
        };
        let q = flat(self.queries(rows));
        let [k, v] = [k, v].map(flat);
        let sinks = self.sinks.as_ref().map(|sinks| sinks.val());
        let y = self.project_result(cache.attend(q, k, v, rope, sinks, &self.params(), at)?);
        let hidden_size = y.dims()[1];
        Ok(y.reshape([batch, 1, hidden_size]))
    }
}
