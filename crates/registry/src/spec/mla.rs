//! Multi-head latent attention: keys and values of all heads are products of one narrow vector for each position.

use super::{AttentionMask, Declare, NormSpec, ParameterRole, QueryTemperature, RopeSpec, validate};
use serde::Serialize;

/// Multi-head latent attention (DeepSeek-V2). A position is kept as a latent `kv_a_layernorm(x W_a)` of `kv_lora_rank` elements, from
/// which `kv_b_proj` makes the keys and values of every head, and one rotated key of `qk_rope_head_dim` elements, which all heads share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MlaSpec {
    /// Heads, of queries as of keys and values.
    pub num_attention_heads: usize,
    /// Width of the vector that queries are products of; `None`: they are products of the hidden states.
    pub q_lora_rank: Option<usize>,
    /// Width of the vector that keys and values are products of.
    pub kv_lora_rank: usize,
    /// Width of the part of a query and a key that is not rotated.
    pub qk_nope_head_dim: usize,
    /// Width of the part that is.
    pub qk_rope_head_dim: usize,
    /// Width of a value.
    pub v_head_dim: usize,
    /// Norm on both narrow vectors.
    pub norm: NormSpec,
    /// Whether the projections to the narrow vectors and the output's carry biases.
    pub bias: bool,
    /// Factor on the scores, usually `(qk_nope_head_dim + qk_rope_head_dim)^-0.5`.
    pub scale: f64,
    /// Factor on the latents after their norm (LongCat-Flash).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_scale: Option<f64>,
    /// Which keys a query sees.
    pub mask: AttentionMask,
    /// Rotary position embedding of the part that is rotated; `None` for layers without positions (NoPE).
    pub rope: Option<RopeSpec>,
    /// Position-dependent factor on the queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_temperature: Option<QueryTemperature>,
    /// Chooses some of the keys that the mask shows, for all heads alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexer: Option<IndexerSpec>,
}

/// The keys that a query attends to, chosen by scores of their own (DeepSeek-V3.2): the best by
/// `sum over heads of (w x) * relu(head_dim^-0.5 * q k)`, divided by `sqrt(heads)`, with queries made of the narrow vector of queries, and a
/// key that all heads share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IndexerSpec {
    /// Heads of its queries.
    pub num_heads: usize,
    /// Width of a head and of the key.
    pub head_dim: usize,
    /// Keys that are chosen; where the mask shows no more, all are.
    pub top_k: usize,
    /// Norm on the key.
    pub norm: NormSpec,
    /// Rotary position embedding of queries and key.
    pub rope: Option<RopeSpec>,
}

impl IndexerSpec {
    fn declare(&self, hidden_size: usize, rank: usize, to: &mut Declare<'_>) {
        let role = ParameterRole::Projection;
        let queries = self.num_heads.saturating_mul(self.head_dim);
        to.head_projection("wq_b", self.num_heads, [queries, rank], false);
        to.projection("wk", [self.head_dim, hidden_size], false, role);
        self.norm.declare("k_norm", &[self.head_dim], to);
        to.projection("weights_proj", [self.num_heads, hidden_size], false, role);
    }

    fn validate(&self, hidden_size: usize, rank: usize) -> Result<(), String> {
        validate::check_elements("a projection of the indexer", &[self.num_heads, self.head_dim, rank])?;
        validate::check_elements("a projection of the indexer", &[self.num_heads.max(self.head_dim), hidden_size])?;
        match &self.rope {
            Some(rope) if rope.rotary_dim == 0 || rope.rotary_dim % 2 == 1 || rope.rotary_dim > self.head_dim => {
                Err(format!(
                    "the rotary embedding turns {} of the {} elements of an indexer's head",
                    rope.rotary_dim, self.head_dim
                ))
            }
            _ if self.top_k == 0 => Err("the indexer chooses no key: give a number above zero".to_owned()),
            _ => Ok(()),
        }
    }
}

impl MlaSpec {
    /// Width of a query and a key.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim.saturating_add(self.qk_rope_head_dim)
    }

    /// Declares the projections and the norms of the narrow vectors.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        let (heads, role) = (self.num_attention_heads, ParameterRole::Projection);
        let queries = heads.saturating_mul(self.qk_head_dim());
        match self.q_lora_rank {
            None => to.head_projection("q_proj", heads, [queries, hidden_size], false),
            Some(rank) => {
                to.projection("q_a_proj", [rank, hidden_size], self.bias, role);
                self.norm.declare("q_a_layernorm", &[rank], to);
                to.head_projection("q_b_proj", heads, [queries, rank], false);
            }
        }
        let both = self.kv_lora_rank.saturating_add(self.qk_rope_head_dim);
        to.projection("kv_a_proj_with_mqa", [both, hidden_size], self.bias, role);
        self.norm.declare("kv_a_layernorm", &[self.kv_lora_rank], to);
        let expanded = heads.saturating_mul(self.qk_nope_head_dim.saturating_add(self.v_head_dim));
        to.head_projection("kv_b_proj", heads, [expanded, self.kv_lora_rank], false);
        to.projection("o_proj", [hidden_size, heads.saturating_mul(self.v_head_dim)], self.bias, role);
        if let Some((indexer, rank)) = self.indexer.as_ref().zip(self.q_lora_rank) {
            to.inside("indexer", |to| indexer.declare(hidden_size, rank, to));
        }
    }

    /// Elements that are kept of each position.
    pub(super) fn kept_elements(&self) -> usize {
        let indexed = self.indexer.as_ref().map_or(0, |indexer| indexer.head_dim);
        self.kv_lora_rank.saturating_add(self.qk_rope_head_dim).saturating_add(indexed)
    }

    pub(super) fn validate(&self, hidden_size: usize) -> Result<(), String> {
        let heads = self.num_attention_heads;
        let widths = [self.kv_lora_rank, self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim];
        if widths.contains(&0) {
            return Err(format!("latent attention with a width of zero: latent, key parts and value are {widths:?}"));
        }
        validate::check_elements("a projection", &[heads, self.qk_head_dim(), hidden_size])?;
        validate::check_elements("a projection", &[self.kept_elements(), hidden_size])?;
        validate::check_elements("a projection", &[heads, self.v_head_dim, hidden_size])?;
        let of_head = self.qk_nope_head_dim.saturating_add(self.v_head_dim);
        validate::check_elements("a projection", &[heads, of_head, self.kv_lora_rank])?;
        if let Some(indexer) = &self.indexer {
            let Some(rank) = self.q_lora_rank else {
                return Err("an indexer has queries of a narrow vector, but q_lora_rank is null".to_owned());
            };
            if self.mask != AttentionMask::Full {
                return Err("an indexer chooses among all earlier keys, and no others".to_owned());
            }
            indexer.validate(hidden_size, rank)?;
        }
        if let Some(rank) = self.q_lora_rank {
            validate::check_elements("a projection", &[rank, hidden_size])?;
            validate::check_elements("a projection", &[heads, self.qk_head_dim(), rank])?;
        }
        match &self.rope {
            Some(rope) if rope.rotary_dim != self.qk_rope_head_dim || rope.rotary_dim % 2 == 1 => Err(format!(
                "the rotary embedding turns {} elements, but qk_rope_head_dim is {}: they must be equal and even",
                rope.rotary_dim, self.qk_rope_head_dim
            )),
            _ => Ok(()),
        }
    }
}
