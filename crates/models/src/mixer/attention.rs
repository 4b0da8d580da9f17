//! The attention block of a layer: projections, norms, rotation, cache and the attention itself.

use super::{Ropes, convert, new_kv_cache, tempered};
use crate::linears::{Linears, linears};
use crate::pass::Pass;
use crate::skeleton::Skeleton;
use crate::{CacheOptions, Linear, MixerState, ModelError, Norm};
#[cfg(feature = "cube")]
use automodel_attention::step::{self, StaticKvCache, StepHeads, StepPosition, StepRope};
use automodel_attention::{
    Alibi, AttentionError, AttentionParams, KvCache, Positions, RopeTables, SdpaBackend, attention,
};
use automodel_registry::spec::{AttentionSpec, GateActivation, QkNorm, QkNormExtent};
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, activation};

/// Multi-head attention with its projections.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[num_attention_heads * head_dim, hidden_size]`
    pub q_proj: Linear,
    /// `[num_key_value_heads * head_dim, hidden_size]`
    pub k_proj: Linear,
    /// `[num_key_value_heads * value_dim, hidden_size]`
    pub v_proj: Linear,
    /// `[hidden_size, num_attention_heads * value_dim]`
    pub o_proj: Linear,
    /// `[num_attention_heads * value_dim, hidden_size]`, or `[num_attention_heads, hidden_size]`: gates on the output.
    pub gate_proj: Option<Linear>,
    /// Norm on queries.
    pub q_norm: Option<HeadNorm>,
    /// Norm on keys.
    pub k_norm: Option<HeadNorm>,
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

linears!(Attention { q_proj, k_proj, v_proj, o_proj [gate_proj]; q_norm, k_norm, sinks, attn_sub_norm, rope, spec });

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

impl Attention {
    /// Attention without values; its rotary embedding is added to `ropes`.
    pub(crate) fn new(spec: &AttentionSpec, parameters: &Skeleton<'_>, ropes: &mut Ropes) -> Result<Self, ModelError> {
        let norm = |name| spec.qk_norm.as_ref().map(|qk_norm| HeadNorm::of(name, qk_norm, parameters)).transpose();
        Ok(Self {
            q_proj: parameters.linear("q_proj")?,
            k_proj: parameters.linear("k_proj")?,
            v_proj: parameters.linear("v_proj")?,
            o_proj: parameters.linear("o_proj")?,
            gate_proj: spec.output_gate.map(|_| parameters.linear("gate_proj")).transpose()?,
            q_norm: norm("q_norm")?,
            k_norm: norm("k_norm")?,
            sinks: parameters.optional("sinks")?,
            attn_sub_norm: spec.sub_norm.map(|norm| parameters.norm("attn_sub_norm", norm)).transpose()?,
            rope: spec.rope.as_ref().map(|rope| ropes.index_of(spec.head_dim, rope)),
            spec: spec.clone(),
        })
    }

    /// An empty KV cache.
    pub(crate) fn new_state(&self, options: &CacheOptions) -> MixerState {
        MixerState::Attention(Box::new(new_kv_cache(self.spec.mask, options)))
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
            (Pass::Tokens { positions, ropes, backend }, MixerState::Attention(cache)) => {
                let rope = self.rope.and_then(|index| ropes.get(index));
                self.attend(x, rope, cache, positions, *backend)
            }
            #[cfg(feature = "cube")]
            (Pass::Step { at, ropes }, MixerState::FixedAttention(cache)) => {
                self.step(x, self.rope.and_then(|index| ropes.get(index)), cache, at)
            }
            _ => return Err(ModelError::ForeignCache { layer }),
        };
        result.map_err(|source| ModelError::Attention { layer, source: Box::new(source) })
    }

    fn attend(
        &self,
        x: Tensor<3>,
        rope: Option<&RopeTables>,
        cache: &mut KvCache,
        positions: &Positions,
        backend: SdpaBackend,
    ) -> Result<Tensor<3>, AttentionError> {
        let [batch, length, _] = x.dims();
        let gate = self.gate(&x);
        let (q, k, v) = self.project(x);
        let (q, k) = self.rotate(q, k, rope);
        let q = tempered(q, self.spec.query_temperature, positions);
        let cached = cache.append(k, v)?;
        let positions = Positions { key_start: cached.key_start, ..positions.clone() };
        let sinks = self.sinks.as_ref().map(|sinks| sinks.val());
        let y = attention(backend, q, cached.k, cached.v, sinks, &self.params(), &positions)?;
        let (heads, value_dim) = (self.spec.num_attention_heads, self.spec.value_dim());
        let y = y.swap_dims(1, 2).reshape([batch * length, heads * value_dim]);
        let y = match gate {
            Some(factors) => gated(y, factors, heads),
            None => y,
        };
        let y = self.project_result(y);
        let hidden_size = y.dims()[1];
        Ok(y.reshape([batch, length, hidden_size]))
    }

    /// The result of all heads, `[rows, num_attention_heads * head_dim]`, to `[rows, hidden_size]`.
    fn project_result(&self, y: Tensor<2>) -> Tensor<2> {
        self.o_proj.forward(match &self.attn_sub_norm {
            Some(norm) => norm.forward(y),
            None => y,
        })
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
    fn gate(&self, x: &Tensor<3>) -> Option<Tensor<2>> {
        let (gate, linear) = self.spec.output_gate.zip(self.gate_proj.as_ref())?;
        let [batch, length, hidden_size] = x.dims();
        let y = linear.forward(x.clone().reshape([batch * length, hidden_size]));
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
        let project = |linear: &Linear, norm: Option<&HeadNorm>, heads: usize, head_dim: usize| {
            let y = linear.forward(rows.clone());
            let y = match norm.filter(|_| whole) {
                Some(norm) => norm.forward(y),
                None => y,
            };
            let y = match self.spec.clip_qkv {
                Some(bound) => y.clamp(-bound, bound),
                None => y,
            };
            let y = y.reshape([batch, length, heads, head_dim]);
            let before = self.spec.qk_norm.as_ref().is_some_and(|qk_norm| !qk_norm.after_rope);
            match norm.filter(|_| !whole && before) {
                Some(norm) => norm.forward(y),
                None => y,
            }
        };
        let (heads, kv_heads) = (self.spec.num_attention_heads, self.spec.num_key_value_heads);
        let v = project(&self.v_proj, None, kv_heads, self.spec.value_dim());
        [
            project(&self.q_proj, self.q_norm.as_ref(), heads, self.spec.head_dim),
            project(&self.k_proj, self.k_norm.as_ref(), kv_heads, self.spec.head_dim),
            match self.spec.value_scale {
                Some(scale) => v * scale,
                None => v,
            },
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
        rotates_last
            && self.spec.query_temperature.is_none()
            && self.spec.alibi.is_none()
            && self.spec.output_gate.is_none()
            && self.spec.value_dim() == self.spec.head_dim
            && step::supports(device, heads, &convert::mask(self.spec.mask))
    }

    /// [`attend`](Self::attend) for one new token of each sequence, `[batch, 1, hidden_size]`, over a cache of fixed buffers.
    fn step(
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
        let sinks = self.sinks.as_ref().map(|sinks| sinks.val());
        let y = self.project_result(cache.attend(q, k, v, rope, sinks, &self.params(), at)?);
        let hidden_size = y.dims()[1];
        Ok(y.reshape([batch, 1, hidden_size]))
    }
}
