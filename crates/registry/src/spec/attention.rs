//! Softmax attention: heads, biases, norms, masks.

use super::{Declare, NormSpec, ParameterRole, RopeSpec, validate};
use serde::Serialize;

/// Multi-head attention with grouped key-value heads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttentionSpec {
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Which projections carry a bias.
    pub bias: AttentionBias,
    /// Norms on queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Factor on the scores, usually `head_dim^-0.5`.
    pub scale: f64,
    /// `cap * tanh(scores / cap)` before the mask (Gemma 2).
    pub softcap: Option<f64>,
    /// Which keys a query sees.
    pub mask: AttentionMask,
    /// Rotary position embedding; `None` for layers without positions (NoPE).
    pub rope: Option<RopeSpec>,
    /// One learned logit per head that joins the softmax and attends to nothing (gpt-oss).
    pub sinks: bool,
    /// Bound on the absolute value of the projected queries, keys and values (OLMo, OLMoE).
    pub clip_qkv: Option<f64>,
    /// Position-dependent factor on the queries.
    pub query_temperature: Option<QueryTemperature>,
    /// Where keys and values come from.
    #[serde(skip_serializing_if = "KeyValues::is_projected")]
    pub key_values: KeyValues,
    /// Norm on the values of each head (Gemma 4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_norm: Option<NormSpec>,
    /// Norm on the result of all heads, before the output projection (BitNet).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_norm: Option<NormSpec>,
    /// Biases on the scores that grow with the position of the key, in place of other positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alibi: Option<Alibi>,
    /// Width of a head of values, where that is not `head_dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_head_dim: Option<usize>,
    /// Factor on the values (MiMo-V2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_scale: Option<f64>,
    /// Gate on the output of the heads, before the output projection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_gate: Option<OutputGate>,
}

impl AttentionSpec {
    /// Full attention with scores scaled by `head_dim^-0.5`: no biases, norms, positions or anything else that is optional.
    pub fn new(num_attention_heads: usize, num_key_value_heads: usize, head_dim: usize) -> Self {
        Self {
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            bias: AttentionBias::default(),
            qk_norm: None,
            scale: (head_dim as f64).powf(-0.5),
            softcap: None,
            mask: AttentionMask::Full,
            rope: None,
            sinks: false,
            clip_qkv: None,
            query_temperature: None,
            key_values: KeyValues::Projected,
            value_norm: None,
            sub_norm: None,
            alibi: None,
            value_head_dim: None,
            value_scale: None,
            output_gate: None,
        }
    }

    /// Width of a head of values, and of the output.
    pub fn value_dim(&self) -> usize {
        self.value_head_dim.unwrap_or(self.head_dim)
    }

    /// Elements of the keys and values of one position.
    pub(super) fn cached_elements(&self) -> usize {
        self.num_key_value_heads.saturating_mul(self.head_dim.saturating_add(self.value_dim()))
    }

    /// Declares projections, the gate on the output, norms of queries and keys, sinks, and the norm on the result of the heads.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        let width = |heads: usize| heads.saturating_mul(self.head_dim);
        to.head_projection("q_proj", heads, [width(heads), hidden_size], self.bias.q);
        if self.key_values.are_own() {
            to.head_projection("k_proj", kv_heads, [width(kv_heads), hidden_size], self.bias.k);
        }
        let value_width = |heads: usize| heads.saturating_mul(self.value_dim());
        if self.key_values == KeyValues::Projected {
            to.head_projection("v_proj", kv_heads, [value_width(kv_heads), hidden_size], self.bias.v);
        }
        to.projection("o_proj", [hidden_size, value_width(heads)], self.bias.o, ParameterRole::Projection);
        if let Some(gate) = &self.output_gate {
            let gates = match gate.extent {
                GateExtent::Element => value_width(heads),
                GateExtent::Head => heads,
            };
            to.head_projection("gate_proj", heads, [gates, hidden_size], false);
        }
        if let Some(qk_norm) = &self.qk_norm {
            qk_norm.declare("q_norm", heads, self.head_dim, to);
            if self.key_values.are_own() {
                qk_norm.declare("k_norm", kv_heads, self.head_dim, to);
            }
        }
        if let Some(norm) = &self.value_norm {
            norm.declare("v_norm", &[self.value_dim()], to);
        }
        if self.sinks {
            to.parameter("sinks", &[heads], ParameterRole::Other);
        }
        if let Some(norm) = &self.sub_norm {
            norm.declare("attn_sub_norm", &[value_width(heads)], to);
        }
    }
}

impl AttentionSpec {
    pub(super) fn validate(&self, hidden_size: usize) -> Result<(), String> {
        let (heads, key_value_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if key_value_heads == 0 || !heads.is_multiple_of(key_value_heads) {
            return Err(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {key_value_heads}: correct one of them"
            ));
        }
        validate::check_elements("a projection", &[heads, self.head_dim, hidden_size])?;
        if self.value_norm.is_some() && !self.key_values.are_own() {
            return Err("it normalises values, but has those of another layer".to_owned());
        }
        if self.key_values == KeyValues::OneProjection && self.value_dim() != self.head_dim {
            return Err(format!("its values are its keys, of {}, but values have {}", self.head_dim, self.value_dim()));
        }
        validate::check_elements("a projection", &[heads, self.value_dim(), hidden_size])?;
        if let Some(bound) = self.clip_qkv
            && !(bound >= 0.0 && bound.is_finite())
        {
            return Err(format!("queries, keys and values are clipped to {bound}: it must not be negative"));
        }
        if self.alibi.is_some() && (self.softcap.is_some() || self.mask == AttentionMask::Bidirectional) {
            return Err("linear biases on the scores (ALiBi) go with neither a soft-cap nor a mask that is not causal"
                .to_owned());
        }
        if let Some(rope) = &self.rope
            && (rope.rotary_dim == 0 || rope.rotary_dim % 2 == 1 || rope.rotary_dim > self.head_dim)
        {
            return Err(format!(
                "the rotary embedding turns {} of the {} elements of a head: it must be an even number, at least 2 and at \
                 most the head's",
                rope.rotary_dim, self.head_dim
            ));
        }
        Ok(())
    }
}

/// `slope * position` of the key on each score, with a slope for each head: powers of `2^(-8 / heads)`, and for numbers of heads that
/// are no power of two some of the powers that twice the next smaller one gives (ALiBi). Positions count from the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Alibi {
    /// Whether the biases are added before the scores are scaled (Falcon), or after it (BLOOM, MPT).
    pub before_scale: bool,
    /// Whether slopes, positions and their products are rounded to bfloat16 (Falcon).
    pub in_bfloat16: bool,
}

/// `output * activation(gate_proj(input))` on what the heads give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OutputGate {
    /// What one gate acts on.
    pub extent: GateExtent,
    /// From the projection to the factor.
    pub activation: GateActivation,
}

/// What one gate acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum GateExtent {
    /// One element.
    Element,
    /// All elements of a head.
    Head,
}

/// From a gate's projection to the factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum GateActivation {
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `ln(1 + exp(x))`, in float32 (Laguna).
    Softplus,
}

/// Biases of the four projections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AttentionBias {
    /// `q_proj.bias`
    pub q: bool,
    /// `k_proj.bias`
    pub k: bool,
    /// `v_proj.bias`
    pub v: bool,
    /// `o_proj.bias`
    pub o: bool,
}

impl AttentionBias {
    /// Queries, keys and values carry one bias flag, the output another.
    pub const fn qkv_o(qkv: bool, o: bool) -> Self {
        Self { q: qkv, k: qkv, v: qkv, o }
    }
}

/// Where the keys and values of an attention come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum KeyValues {
    /// `k_proj` and `v_proj`.
    Projected,
    /// `k_proj` makes both: values are what keys are before their norm and rotation (Gemma 4).
    OneProjection,
    /// They are those of the attention in this layer, an earlier one: no projections, and no cache (Gemma 3n, Gemma 4).
    OfLayer(usize),
}

impl KeyValues {
    /// Whether the layer makes them itself.
    pub fn are_own(self) -> bool {
        match self {
            Self::Projected | Self::OneProjection => true,
            Self::OfLayer(_) => false,
        }
    }

    fn is_projected(&self) -> bool {
        *self == Self::Projected
    }
}

/// Norms on projected queries and keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QkNorm {
    /// Kind and epsilon.
    pub norm: NormSpec,
    /// What one norm runs over and how its weights are laid out.
    pub extent: QkNormExtent,
    /// `true`: after the rotary embedding (HunYuan); `false`: before it.
    pub after_rope: bool,
}

impl QkNorm {
    /// Declares the norm called `name` over `heads` heads.
    pub fn declare(&self, name: &str, heads: usize, head_dim: usize, to: &mut Declare<'_>) {
        match self.extent {
            QkNormExtent::Head => self.norm.declare(name, &[head_dim], to),
            QkNormExtent::HeadOwnWeight => {
                to.with_heads(heads, |to| self.norm.declare(name, &[heads, head_dim], to));
            }
            QkNormExtent::Projection => self.norm.declare(name, &[heads.saturating_mul(head_dim)], to),
        }
    }
}

/// What one query or key norm runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum QkNormExtent {
    /// Over each head; all heads share a weight `[head_dim]`.
    Head,
    /// Over each head; each head has its own weight: `[heads, head_dim]`.
    HeadOwnWeight,
    /// Over all heads at once: weight `[heads * head_dim]`.
    Projection,
}

/// Which keys a query sees. All but [`Bidirectional`](Self::Bidirectional) are causal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AttentionMask {
    /// All earlier positions.
    Full,
    /// The last `window` positions, the query's own included.
    Sliding {
        /// Number of positions.
        window: usize,
    },
    /// Earlier positions in the query's own chunk of `size` positions (Llama 4).
    Chunked {
        /// Number of positions.
        size: usize,
    },
    /// Earlier and later positions: encoders, whose sequences come in one pass.
    Bidirectional,
}

/// `1 + scale * ln(1 + floor((position + first) / floor_scale))` on the queries (Llama 4, Ministral 3).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QueryTemperature {
    /// Number of the first position: 1 in Llama 4, 0 in Ministral 3.
    pub first: usize,
    /// Factor on the logarithm.
    pub scale: f64,
    /// Positions per step.
    pub floor_scale: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(attention: &AttentionSpec) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Vec::new();
        let declare = |to: &mut Declare<'_>| attention.declare(32, to);
        Declare::list(declare, &mut |parameter| shapes.push((parameter.path.to_owned(), parameter.shape.to_vec())));
        shapes
    }

    #[test]
    fn values_have_a_width_of_their_own() {
        let gate = |extent| Some(OutputGate { extent, activation: GateActivation::Sigmoid });
        let narrow = AttentionSpec { value_head_dim: Some(6), ..AttentionSpec::new(4, 2, 12) };
        let found = shapes(&AttentionSpec { output_gate: gate(GateExtent::Element), ..narrow.clone() });
        let found: Vec<_> = found.iter().map(|(path, shape)| (path.as_str(), shape.as_slice())).collect();
        assert_eq!(
            found,
            [
                ("q_proj.weight", &[48, 32][..]),
                ("k_proj.weight", &[24, 32]),
                ("v_proj.weight", &[12, 32]),
                ("o_proj.weight", &[32, 24]),
                ("gate_proj.weight", &[24, 32]),
            ]
        );
        let of_heads = shapes(&AttentionSpec { output_gate: gate(GateExtent::Head), ..narrow.clone() });
        assert_eq!(of_heads[4].1, [4, 32]);
        assert_eq!(narrow.cached_elements(), 2 * (12 + 6));
        assert!(narrow.validate(32).is_ok());
        assert!(AttentionSpec { value_head_dim: Some(0), ..narrow }.validate(32).is_err());
    }

    #[test]
    fn linear_biases_go_with_causal_scores_that_are_not_capped() {
        let alibi = Some(Alibi { before_scale: false, in_bfloat16: false });
        let biased = AttentionSpec { alibi, ..AttentionSpec::new(4, 4, 8) };
        assert!(biased.validate(32).is_ok());
        let capped = AttentionSpec { softcap: Some(5.0), ..biased.clone() };
        let bidirectional = AttentionSpec { mask: AttentionMask::Bidirectional, ..biased };
        for spec in [capped, bidirectional] {
            assert!(spec.validate(32).unwrap_err().contains("ALiBi"));
        }
    }
}
