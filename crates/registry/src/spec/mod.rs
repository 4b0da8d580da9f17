//! What a model computes, as data: the result of lowering a config.
//!
//! Fields name mathematics, never models. Layers are a list, so hybrids and per-layer windows are no special case.

mod attention;
mod mlp;
mod norm;
mod rope;
mod validate;

pub use attention::{AttentionBias, AttentionMask, AttentionSpec, QkNorm, QkNormExtent, QueryTemperature};
pub use mlp::{Activation, Mlp, MlpSpec, MoeSpec, RouterScore, RouterSpec, SharedExpert};
pub use norm::{NormKind, NormPlacement, NormSpec};
pub use rope::{LongRope, RopePairing, RopeScaling, RopeSpec, YarnRope};

use serde::Serialize;

/// A decoder-only language model, completely described.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// Rows of the token embedding and of the output head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Longest sequence that the model was made for; `None` when the mathematics sets no limit.
    pub max_position_embeddings: Option<usize>,
    /// From token ids to the residual stream.
    pub embedding: EmbeddingSpec,
    /// The decoder layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// Norm after the last layer.
    pub final_norm: NormSpec,
    /// From the residual stream to logits.
    pub head: HeadSpec,
}

/// Token embedding and what is done to it before the first layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EmbeddingSpec {
    /// Factor on the embedded tokens (`sqrt(hidden_size)` in Gemma, `embedding_multiplier` in Granite).
    pub scale: Option<f64>,
    /// Learned absolute positions added to the tokens (GPT-2's `wpe`).
    pub learned_positions: Option<LearnedPositions>,
}

/// A table of learned absolute positions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearnedPositions {
    /// Rows of the table.
    pub rows: usize,
    /// Row of position 0 (2 in OPT).
    pub offset: usize,
}

impl LearnedPositions {
    /// Positions that there are rows for.
    pub fn positions(&self) -> usize {
        self.rows.saturating_sub(self.offset)
    }
}

/// Output head and what is done to its logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadSpec {
    /// Whether the config asks for the head to share the token embedding's weight.
    pub tied: bool,
    /// Whether the head has a bias.
    pub bias: bool,
    /// Factor on the logits (`logit_scale` in Cohere, `1 / logits_scaling` in Granite).
    pub logit_scale: Option<f64>,
    /// `cap * tanh(logits / cap)` (Gemma 2).
    pub logit_softcap: Option<f64>,
}

/// One decoder layer: a mixer over positions, then an MLP at each position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSpec {
    /// How positions exchange information.
    pub mixer: Mixer,
    /// What is computed at each position.
    pub mlp: Mlp,
    /// Where the norms stand.
    pub placement: NormPlacement,
    /// The norms of this layer (all of one kind).
    pub norm: NormSpec,
    /// Factor on each branch before it is added to the residual stream (Granite).
    pub residual_scale: Option<f64>,
}

/// How positions exchange information.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mixer {
    /// Softmax attention.
    Attention(AttentionSpec),
}
