//! What a model computes, as data: the result of lowering a config.
//!
//! A [`ModelSpec`] is a [`Backbone`] and a [`Task`]. The backbone's layers are lists of [`Branch`]es, each of which computes
//! something ([`Mixer`] over positions, or [`FeedForward`] at each position) and adds it to the residual stream. Fields name
//! mathematics, never models. Each block declares its parameters in the same file, see [`Declare`].

mod attention;
mod declare;
mod feed_forward;
mod layer;
mod layer_embedding;
mod mixer;
mod mla;
mod moe;
mod norm;
mod rope;
mod short_conv;
mod validate;

pub use attention::{
    Alibi, AttentionBias, AttentionMask, AttentionSpec, GateActivation, GateExtent, KeyValues, OutputGate, QkNorm,
    QkNormExtent, QueryTemperature,
};
pub use declare::{Declare, ParameterRole, ParameterSpec};
pub use feed_forward::{Activation, FeedForward, Gating, MlpSpec};
pub use layer::{Branch, BranchInput, LayerSpec, NamedNorm, Operation};
pub use layer_embedding::{LayerEmbeddingSpec, LayerEmbeddings};
pub use mixer::{CacheSpec, Mixer};
pub use mla::{IndexerSpec, MlaSpec};
pub use moe::{ExpertGroups, GroupScore, MoeSpec, Normalize, RouterScore, RouterSpec, SharedExpert, Weighted};
pub use norm::{NormKind, NormSpec};
pub use rope::{LongRope, RopePairing, RopeScaling, RopeSpec, YarnRope};
pub use short_conv::ShortConvSpec;

use serde::Serialize;

/// A model, completely described.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// From token ids to hidden states.
    pub backbone: Backbone,
    /// What hidden states are for.
    pub task: Task,
}

/// From token ids to hidden states.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backbone {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Longest sequence of the training, `max_position_embeddings`; `None` when the mathematics sets no limit.
    pub max_position_embeddings: Option<usize>,
    /// From token ids to the residual stream.
    pub embedding: EmbeddingSpec,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// Norm after the last layer; `None` where layers normalise what they give (BERT).
    pub final_norm: Option<NormSpec>,
}

/// What hidden states are for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Task {
    /// Logits of the next token, by an output head `[vocab_size, hidden_size]`.
    CausalLm(HeadSpec),
    /// The hidden states themselves.
    Embed,
}

impl ModelSpec {
    /// The output head; `None` for a task without one.
    pub fn head(&self) -> Option<&HeadSpec> {
        match &self.task {
            Task::CausalLm(head) => Some(head),
            Task::Embed => None,
        }
    }

    /// Declares all parameters, in module order: `model.` and what it holds, then the head.
    pub fn declare(&self, to: &mut Declare<'_>) {
        to.inside("model", |to| self.backbone.declare(to));
        if let Some(head) = self.head() {
            let hidden_size = self.backbone.hidden_size;
            if let Some(transform) = &head.transform {
                to.inside("head_transform", |to| transform.declare(hidden_size, to));
            }
            let width = head.transform.as_ref().map_or(hidden_size, |transform| transform.width);
            let shape = [self.backbone.vocab_size, width];
            to.parameter("lm_head.weight", &shape, ParameterRole::OutputHead);
            if head.bias {
                to.parameter("lm_head.bias", &shape[..1], ParameterRole::Bias);
            }
        }
    }
}

impl Backbone {
    /// Declares the parameters of embedding, layers and final norm.
    pub fn declare(&self, to: &mut Declare<'_>) {
        let hidden_size = self.hidden_size;
        let width = self.embedding.projected_from.unwrap_or(hidden_size);
        to.parameter("embed_tokens.weight", &[self.vocab_size, width], ParameterRole::Embedding);
        if self.embedding.projected_from.is_some() {
            to.projection("project_in", [hidden_size, width], false, ParameterRole::Projection);
        }
        if let Some(positions) = &self.embedding.learned_positions {
            let shape = [positions.rows, hidden_size];
            to.parameter("embed_positions.weight", &shape, ParameterRole::PositionEmbedding);
        }
        if let Some(norm) = &self.embedding.norm {
            norm.declare("embed_norm", &[hidden_size], to);
        }
        if let Some(by_layer) = &self.embedding.by_layer {
            to.inside("layer_embeddings", |to| by_layer.declare(hidden_size, self.layers.len(), to));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            to.inside(&format!("layers.{index}"), |to| layer.declare(hidden_size, to));
        }
        if let Some(norm) = &self.final_norm {
            norm.declare("norm", &[hidden_size], to);
        }
    }

    /// The layers whose keys and values later layers attend to.
    pub fn shared_key_values(&self) -> impl Iterator<Item = usize> {
        self.attentions().filter_map(|(_, attention)| match attention.key_values {
            KeyValues::OfLayer(source) => Some(source),
            KeyValues::Projected | KeyValues::OneProjection => None,
        })
    }

    /// All norms over the residual stream.
    pub fn norms(&self) -> impl Iterator<Item = &NormSpec> {
        let of_layers = self.layers.iter().flat_map(LayerSpec::norms).map(|named| &named.norm);
        self.embedding.norm.iter().chain(of_layers).chain(&self.final_norm)
    }

    /// Every attention over keys and values of heads, with the index of its layer.
    pub fn attentions(&self) -> impl Iterator<Item = (usize, &AttentionSpec)> {
        self.layers
            .iter()
            .enumerate()
            .flat_map(|(index, layer)| layer.mixers().filter_map(move |mixer| Some((index, mixer.attention()?))))
    }
}

/// Token embedding and what is done to it before the first layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EmbeddingSpec {
    /// Factor on the embedded tokens (`sqrt(hidden_size)` in Gemma, `embedding_multiplier` in Granite).
    pub scale: Option<f64>,
    /// Learned absolute positions added to the tokens (GPT-2's `wpe`).
    pub learned_positions: Option<LearnedPositions>,
    /// Norm on the sum (BERT, BLOOM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormSpec>,
    /// Embeddings for each layer (Gemma 3n, Gemma 4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_layer: Option<LayerEmbeddings>,
    /// Width of the tokens' embedding, where `project_in` makes the residual stream's width of it (OPT-350m).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projected_from: Option<usize>,
    /// Sines and cosines of positions added to the tokens (XGLM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinusoids: Option<Sinusoids>,
}

/// `sin((position + offset) * f)` for the frequencies `f`, then the cosines; frequencies fall from 1 to 1/10000 as a geometric series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sinusoids {
    /// Added to positions.
    pub offset: usize,
    /// Position that has zeros in their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<usize>,
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

/// A layer between the final norm and the output head: `norm(activation(dense(x)))` (BERT), or `dense` alone (OPT-350m).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeadTransform {
    /// Width that it projects to, and the head from.
    pub width: usize,
    /// Whether `dense` carries a bias.
    pub bias: bool,
    /// The non-linearity.
    pub activation: Option<Activation>,
    /// The norm on the result.
    pub norm: Option<NormSpec>,
}

impl HeadTransform {
    /// Declares `dense` and `norm`.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        to.projection("dense", [self.width, hidden_size], self.bias, ParameterRole::Projection);
        if let Some(norm) = &self.norm {
            norm.declare("norm", &[self.width], to);
        }
    }
}

/// Output head and what is done to its logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadSpec {
    /// What its input goes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<HeadTransform>,
    /// Whether the config asks for the head to share the token embedding's weight.
    pub tied: bool,
    /// Whether the head has a bias.
    pub bias: bool,
    /// Whether the rows of the head's weight are divided by their lengths (Baichuan 2).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unit_rows: bool,
    /// Factor on the logits (`logit_scale` in Cohere, `1 / logits_scaling` in Granite).
    pub logit_scale: Option<f64>,
    /// `cap * tanh(logits / cap)` (Gemma 2).
    pub logit_softcap: Option<f64>,
}
