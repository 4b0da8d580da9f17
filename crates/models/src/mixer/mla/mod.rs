//! Multi-head latent attention (DeepSeek-V2).
//!
//! The cache holds the latent and the rotated key of each position, which all heads share. Scores and outputs follow from them in two
//! ways with equal results: [`expanded`](LatentAttention::expanded) makes the keys and values of every head, and
//! [`absorbed`](LatentAttention::absorbed) applies the weights that make them to the queries and to the outputs instead, so that
//! all heads attend to the latents. The one with fewer multiplications is used: the first for prompts, the second for single
//! tokens after some.

mod indexer;
#[cfg(test)]
mod tests;

pub use indexer::Indexer;

use super::{Ropes, convert, new_kv_cache, tempered};
use crate::linears::Linears;
use crate::pass::Pass;
use crate::skeleton::Skeleton;
use crate::{CacheOptions, Linear, MixerState, ModelError, Norm};
use automodel_attention::{
    AttentionError, AttentionParams, KeysAndValues, KvCache, Positions, RopeTables, SdpaBackend, attention,
};
use automodel_registry::spec::MlaSpec;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, activation};
use indexer::IndexQueries;

/// Multi-head latent attention with its projections.
#[derive(Module, Debug)]
pub struct LatentAttention {
    /// `[heads * (qk_nope_head_dim + qk_rope_head_dim), hidden_size]`, where queries have no narrow vector.
    pub q_proj: Option<Linear>,
    /// `[q_lora_rank, hidden_size]`
    pub q_a_proj: Option<Linear>,
    /// Norm on the narrow vector of queries.
    pub q_a_layernorm: Option<Norm>,
    /// `[heads * (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank]`
    pub q_b_proj: Option<Linear>,
    /// `[kv_lora_rank + qk_rope_head_dim, hidden_size]`: the latent and the shared key.
    pub kv_a_proj_with_mqa: Linear,
    /// Norm on the latent.
    pub kv_a_layernorm: Norm,
    /// `[heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank]`: from latents to keys and values.
    pub kv_b_proj: Linear,
    /// `[hidden_size, heads * v_head_dim]`
    pub o_proj: Linear,
    /// Chooses the keys that queries attend to.
    pub indexer: Option<Indexer>,
    /// The rotary embedding among those of the model.
    #[module(skip)]
    rope: Option<usize>,
    #[module(skip)]
    spec: MlaSpec,
}

impl Linears for LatentAttention {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        let Self { q_proj, q_a_proj, q_a_layernorm: _, q_b_proj, kv_a_proj_with_mqa, kv_a_layernorm: _, .. } = self;
        let Self { kv_b_proj, o_proj, indexer, rope: _, spec: _, .. } = self;
        let optional = [("q_proj", q_proj), ("q_a_proj", q_a_proj), ("q_b_proj", q_b_proj)];
        let optional = optional.into_iter().filter_map(|(name, linear)| Some((name, linear.as_mut()?)));
        let all = [("kv_a_proj_with_mqa", kv_a_proj_with_mqa), ("kv_b_proj", kv_b_proj), ("o_proj", o_proj)];
        for (name, linear) in optional.chain(all) {
            visit(&[path, ".", name].concat(), linear);
        }
        if let Some(indexer) = indexer {
            indexer.for_each_linear(&[path, ".indexer"].concat(), visit);
        }
    }
}

/// How the keys of a call are attended to.
struct Scoring<'a> {
    positions: &'a Positions,
    backend: SdpaBackend,
    /// What chooses among them, with its queries and keys.
    chosen: Option<(&'a Indexer, IndexQueries, Tensor<4>)>,
}

/// Most scores of a block of queries that attend to chosen keys.
const BLOCK_SCORES: usize = 1 << 24;

impl Scoring<'_> {
    /// [`attention()`](automodel_attention::attention()) of all keys that the mask shows, or of those that are chosen of them.
    fn attend(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        params: &AttentionParams,
    ) -> Result<Tensor<4>, AttentionError> {
        let Some((indexer, index_queries, index_keys)) = &self.chosen else {
            return attention(self.backend, q, k, v, None, params, self.positions);
        };
        let dtype = q.dtype();
        let ([batch, heads, length, width], [_, kv_heads, keys, _]) = (q.dims(), k.dims());
        let value_dim = v.dims()[3];
        let (q, k, v) = (q.cast(DType::F32) * params.scale, k.cast(DType::F32).swap_dims(2, 3), v.cast(DType::F32));
        let of_query = batch * keys * heads.max(indexer.spec.num_heads);
        let block = (BLOCK_SCORES / of_query.max(1)).clamp(1, length);
        let mut all = Vec::new();
        for start in (0..length).step_by(block) {
            let height = block.min(length - start);
            let q = q.clone().narrow(2, start, height).reshape([batch, kv_heads, heads / kv_heads * height, width]);
            let scores = q.matmul(k.clone()).reshape([batch, heads, height, keys]);
            let bias = indexer.bias(index_queries, start..start + height, index_keys, self.positions);
            let weights = activation::softmax(scores + bias, 3);
            let weights = weights.reshape([batch, kv_heads, heads / kv_heads * height, keys]);
            all.push(weights.matmul(v.clone()).reshape([batch, heads, height, value_dim]));
        }
        Ok(Tensor::cat(all, 2).cast(dtype))
    }
}

/// Queries `[batch, heads, length, width]`: the part that is multiplied with keys made of latents, and the rotated part.
struct Queries {
    nope: Tensor<4>,
    rotated: Tensor<4>,
}

impl LatentAttention {
    /// Attention without values; its rotary embedding is added to `ropes`.
    pub(crate) fn new(spec: &MlaSpec, parameters: &Skeleton<'_>, ropes: &mut Ropes) -> Result<Self, ModelError> {
        let narrow = spec.q_lora_rank.is_some();
        let linear = |name, is_there: bool| is_there.then(|| parameters.linear(name)).transpose();
        Ok(Self {
            q_proj: linear("q_proj", !narrow)?,
            q_a_proj: linear("q_a_proj", narrow)?,
            q_a_layernorm: narrow.then(|| parameters.norm("q_a_layernorm", spec.norm)).transpose()?,
            q_b_proj: linear("q_b_proj", narrow)?,
            kv_a_proj_with_mqa: parameters.linear("kv_a_proj_with_mqa")?,
            kv_a_layernorm: parameters.norm("kv_a_layernorm", spec.norm)?,
            kv_b_proj: parameters.linear("kv_b_proj")?,
            o_proj: parameters.linear("o_proj")?,
            indexer: spec
                .indexer
                .as_ref()
                .map(|indexer| Indexer::new(indexer, &parameters.at("indexer"), ropes))
                .transpose()?,
            rope: spec.rope.as_ref().map(|rope| ropes.index_of(spec.qk_rope_head_dim, rope)),
            spec: spec.clone(),
        })
    }

    /// An empty cache of latents, the keys, and of shared keys and those of the indexer, the values.
    pub(crate) fn new_state(&self, options: &CacheOptions) -> MixerState {
        MixerState::Attention(Box::new(new_kv_cache(self.spec.mask, options)))
    }

    /// `[batch, length, hidden_size]` to the same; appends to the cache.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        layer: usize,
        state: &mut MixerState,
        pass: &Pass<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let (Pass::Tokens { positions, ropes, backend, .. }, MixerState::Attention(cache)) = (pass, state) else {
            return Err(ModelError::ForeignCache { layer });
        };
        self.attend(x, ropes, cache, positions, *backend)
            .map_err(|source| ModelError::Attention { layer, source: Box::new(source) })
    }

    fn attend(
        &self,
        x: Tensor<3>,
        ropes: &[RopeTables],
        cache: &mut KvCache,
        positions: &Positions,
        backend: SdpaBackend,
    ) -> Result<Tensor<3>, AttentionError> {
        let [batch, length, hidden_size] = x.dims();
        let rows = x.reshape([batch * length, hidden_size]);
        let rope = self.rope.and_then(|index| ropes.get(index));
        let (latents, keys) = self.latents(rows.clone(), batch, rope);
        let narrow = self.narrow_queries(rows.clone());
        let queries = self.queries(narrow.clone(), batch, rope);
        let grown = |q| tempered(q, self.spec.query_temperature, positions);
        let queries = Queries { nope: grown(queries.nope), rotated: grown(queries.rotated) };
        // The index keys are kept behind the rotated ones.
        let keys = match &self.indexer {
            Some(indexer) => Tensor::cat(vec![keys, indexer.keys(rows.clone(), batch, ropes)], 3),
            None => keys,
        };
        let mut cached = cache.append(latents, keys)?;
        let positions = Positions { key_start: cached.key_start, ..positions.clone() };
        let count = cached.k.dims()[2];
        let mut by = Scoring { positions: &positions, backend, chosen: None };
        if let Some(indexer) = &self.indexer {
            let width = self.spec.qk_rope_head_dim;
            let index_keys = cached.v.clone().narrow(3, width, indexer.spec.head_dim);
            cached.v = cached.v.narrow(3, 0, width);
            // All keys are chosen where there are no more.
            if count > indexer.spec.top_k {
                by.chosen = Some((indexer, indexer.queries(rows, narrow, batch, ropes), index_keys));
            }
        }
        let y = if self.absorbs(batch, length, count) {
            self.absorbed(queries, cached, &by)?
        } else {
            self.expanded(queries, cached, &by)?
        };
        let y = y.reshape([batch * length, self.spec.num_attention_heads * self.spec.v_head_dim]);
        Ok(self.o_proj.forward(y).reshape([batch, length, hidden_size]))
    }

    /// Latents `[batch, 1, length, kv_lora_rank]` and rotated keys `[batch, 1, length, qk_rope_head_dim]` of the rows of `x`.
    fn latents(&self, x: Tensor<2>, batch: usize, rope: Option<&RopeTables>) -> (Tensor<4>, Tensor<4>) {
        let MlaSpec { kv_lora_rank, qk_rope_head_dim, .. } = self.spec;
        let length = x.dims()[0] / batch;
        let both = self.kv_a_proj_with_mqa.forward(x);
        let latents = self.kv_a_layernorm.forward(both.clone().narrow(1, 0, kv_lora_rank));
        let latents = match self.spec.latent_scale {
            Some(scale) => latents * scale,
            None => latents,
        };
        let keys = both.narrow(1, kv_lora_rank, qk_rope_head_dim).reshape([batch, 1, length, qk_rope_head_dim]);
        (latents.reshape([batch, 1, length, kv_lora_rank]), rotated(keys, rope))
    }

    /// The narrow vectors of queries, or the hidden states where there are none.
    fn narrow_queries(&self, x: Tensor<2>) -> Tensor<2> {
        match self.q_a_proj.as_ref().zip(self.q_a_layernorm.as_ref()) {
            Some((narrow, norm)) => norm.forward(narrow.forward(x)),
            None => x,
        }
    }

    fn queries(&self, x: Tensor<2>, batch: usize, rope: Option<&RopeTables>) -> Queries {
        let MlaSpec { num_attention_heads: heads, qk_nope_head_dim: nope, qk_rope_head_dim: turned, .. } = self.spec;
        let length = x.dims()[0] / batch;
        let q = match self.q_b_proj.as_ref().or(self.q_proj.as_ref()) {
            Some(wide) => wide.forward(x),
            None => x,
        };
        let q = q.reshape([batch, length, heads, nope + turned]).swap_dims(1, 2);
        Queries { nope: q.clone().narrow(3, 0, nope), rotated: rotated(q.narrow(3, nope, turned), rope) }
    }

    /// Whether [`absorbed`](Self::absorbed) takes fewer multiplications than [`expanded`](Self::expanded), for each head. Decoding the
    /// weight counts as another row of the batch.
    fn absorbs(&self, batch: usize, queries: usize, keys: usize) -> bool {
        let MlaSpec { kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, .. } = self.spec;
        let product = |factors: &[usize]| factors.iter().map(|&factor| factor as f64).product::<f64>();
        let weight = product(&[qk_nope_head_dim + v_head_dim, kv_lora_rank]);
        let scores = product(&[batch, queries, keys]);
        let expanding = product(&[batch, keys]) * weight + scores * (self.spec.qk_head_dim() + v_head_dim) as f64;
        let absorbing =
            (product(&[batch, queries]) + 1.0) * weight + scores * (2 * kv_lora_rank + qk_rope_head_dim) as f64;
        absorbing < expanding
    }

    /// `[batch, length, heads, v_head_dim]` by the keys and values of every head.
    fn expanded(&self, queries: Queries, cached: KeysAndValues, by: &Scoring<'_>) -> Result<Tensor<4>, AttentionError> {
        let MlaSpec { num_attention_heads: heads, qk_nope_head_dim: nope, v_head_dim, .. } = self.spec;
        let KeysAndValues { k: latents, v: shared, .. } = cached;
        let [batch, _, keys, rank] = latents.dims();
        let both = self.kv_b_proj.forward(latents.reshape([batch * keys, rank]));
        let both = both.reshape([batch, keys, heads, nope + v_head_dim]).swap_dims(1, 2);
        let shared = shared.expand([batch, heads, keys, self.spec.qk_rope_head_dim]);
        let k = Tensor::cat(vec![both.clone().narrow(3, 0, nope), shared], 3);
        let v = both.narrow(3, nope, v_head_dim);
        let q = Tensor::cat(vec![queries.nope, queries.rotated], 3);
        Ok(by.attend(q, k, v, &self.params())?.swap_dims(1, 2))
    }

    /// `[batch, length, heads, v_head_dim]` by queries against latents: `q (W c) = (q W) c`, and `W' sum(p c)` for `sum(p W' c)`.
    fn absorbed(&self, queries: Queries, cached: KeysAndValues, by: &Scoring<'_>) -> Result<Tensor<4>, AttentionError> {
        let MlaSpec { num_attention_heads: heads, qk_nope_head_dim: nope, kv_lora_rank, v_head_dim, .. } = self.spec;
        let [batch, _, length, _] = queries.nope.dims();
        let weight = self.kv_b_proj.floats(queries.nope.dtype());
        let weight = weight.reshape([heads, nope + v_head_dim, kv_lora_rank]);
        let (to_keys, to_values) = (weight.clone().narrow(1, 0, nope), weight.narrow(1, nope, v_head_dim));

        let q = queries.nope.swap_dims(0, 1).reshape([heads, batch * length, nope]).matmul(to_keys);
        let q = q.reshape([heads, batch, length, kv_lora_rank]).swap_dims(0, 1);
        let q = Tensor::cat(vec![q, queries.rotated], 3);
        let k = Tensor::cat(vec![cached.k.clone(), cached.v], 3);
        let [_, _, keys, width] = k.dims();
        let parts = if by.chosen.is_some() { 1 } else { parts(heads, batch, &q.device()) };
        let v = cached.k.expand([batch, parts, keys, kv_lora_rank]);
        let y = by.attend(q, k.expand([batch, parts, keys, width]), v, &self.params())?;

        let y = y.swap_dims(0, 1).reshape([heads, batch * length, kv_lora_rank]);
        // The weight is not transposed, which is slow on the CPU, but the few rows.
        let y = to_values.matmul(y.swap_dims(1, 2));
        Ok(y.reshape([heads, v_head_dim, batch, length]).permute([2, 3, 0, 1]))
    }

    fn params(&self) -> AttentionParams {
        AttentionParams { scale: self.spec.scale, softcap: None, mask: convert::mask(self.spec.mask), alibi: None }
    }
}

fn rotated(x: Tensor<4>, rope: Option<&RopeTables>) -> Tensor<4> {
    match rope {
        Some(tables) => tables.apply(x),
        None => x,
    }
}

/// In how many parts heads attend to the key that they share: the CPU computes each key-value head on one core.
fn parts(heads: usize, batch: usize, device: &Device) -> usize {
    if *device != Device::flex() {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (1..=heads.min(cores / batch.max(1))).rev().find(|parts| heads.is_multiple_of(*parts)).unwrap_or(1)
}
