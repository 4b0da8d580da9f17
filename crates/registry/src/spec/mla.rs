//! Multi-head latent attention: keys and values of all heads are products of one narrow vector for each position.

use super::{AttentionMask, Declare, NormSpec, ParameterRole, RopeSpec, validate};
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
        let kept = self.kv_lora_rank.saturating_add(self.qk_rope_head_dim);
        to.projection("kv_a_proj_with_mqa", [kept, hidden_size], self.bias, role);
        self.norm.declare("kv_a_layernorm", &[self.kv_lora_rank], to);
        let expanded = heads.saturating_mul(self.qk_nope_head_dim.saturating_add(self.v_head_dim));
        to.head_projection("kv_b_proj", heads, [expanded, self.kv_lora_rank], false);
        to.projection("o_proj", [hidden_size, heads.saturating_mul(self.v_head_dim)], self.bias, role);
    }

    /// Elements that are kept of each position.
    pub(super) fn kept_elements(&self) -> usize {
        self.kv_lora_rank.saturating_add(self.qk_rope_head_dim)
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
