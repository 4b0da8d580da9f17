//! Embeddings that tokens have for each layer, and what a layer does with its own.

use super::{Activation, Declare, NormSpec, ParameterRole, validate};
use serde::Serialize;

/// A vector for each layer of a token, beside the one that enters the first: with `x` the embedded token, of width `hidden_size`,
/// `(norm(projection(x) / sqrt(hidden_size)) + sqrt(width) * embed_tokens[token]) / sqrt(2)` (Gemma 3n, Gemma 4).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerEmbeddings {
    /// Rows of the table.
    pub vocab_size: usize,
    /// Width of the vector for one layer.
    pub width: usize,
    /// Norm on what is projected, for each layer.
    pub norm: NormSpec,
}

impl LayerEmbeddings {
    /// Declares the table `[vocab_size, layers * width]`, the projection and its norm.
    pub fn declare(&self, hidden_size: usize, layers: usize, to: &mut Declare<'_>) {
        let all = self.width.saturating_mul(layers);
        to.parameter("embed_tokens.weight", &[self.vocab_size, all], ParameterRole::Embedding);
        to.projection("projection", [all, hidden_size], false, ParameterRole::Projection);
        self.norm.declare("norm", &[self.width], to);
    }

    pub(super) fn validate(&self, hidden_size: usize, layers: usize, vocab_size: usize) -> Result<(), String> {
        if self.vocab_size < vocab_size {
            return Err(format!(
                "the embeddings for each layer have {} rows, fewer than the {vocab_size} of the vocabulary",
                self.vocab_size
            ));
        }
        validate::check_elements("the embeddings for each layer", &[self.vocab_size, layers, self.width])?;
        validate::check_elements("their projection", &[layers, self.width, hidden_size])
    }
}

/// `projection(activation(gate(x)) * e)`, with `e` the embedding that the token has for this layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerEmbeddingSpec {
    /// Width of the embedding.
    pub width: usize,
    /// The non-linearity.
    pub activation: Activation,
}

impl LayerEmbeddingSpec {
    /// Declares `gate` and `projection`.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        to.projection("gate", [self.width, hidden_size], false, ParameterRole::Projection);
        to.projection("projection", [hidden_size, self.width], false, ParameterRole::Projection);
    }

    pub(super) fn validate(&self, hidden_size: usize) -> Result<(), String> {
        validate::check_elements("the projection of a layer's embedding", &[self.width, hidden_size])
    }
}
