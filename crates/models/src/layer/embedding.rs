//! What a layer does with the embeddings that tokens have for it.

use crate::feed_forward::activate;
use crate::linears::{Linears, linears};
use crate::pass::Pass;
use crate::skeleton::Skeleton;
use crate::{Linear, ModelError};
use automodel_registry::spec::{Activation, LayerEmbeddingSpec};
use burn::module::Module;
use burn::tensor::Tensor;

/// `projection(activation(gate(x)) * e)`, with `e` the embedding that the token has for this layer.
#[derive(Module, Debug)]
pub struct LayerEmbedding {
    /// `[width, hidden_size]`
    pub gate: Linear,
    /// `[hidden_size, width]`
    pub projection: Linear,
    #[module(skip)]
    activation: Activation,
}

linears!(LayerEmbedding { gate, projection; activation });

impl LayerEmbedding {
    pub(crate) fn of(spec: &LayerEmbeddingSpec, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            gate: parameters.linear("gate")?,
            projection: parameters.linear("projection")?,
            activation: spec.activation,
        })
    }

    /// `[batch, length, hidden_size]` to the same.
    pub(crate) fn forward(&self, x: Tensor<3>, layer: usize, pass: &Pass<'_>) -> Result<Tensor<3>, ModelError> {
        let Pass::Tokens { layer_embeddings: Some(all), .. } = pass else {
            return Err(ModelError::UnsupportedSpec {
                reason: format!("layer {layer} takes up embeddings that the pass does not have"),
            });
        };
        let [batch, length, hidden_size] = x.dims();
        let [_, _, _, width] = all.dims();
        let own = all.clone().slice_dim(2, layer..layer + 1).reshape([batch * length, width]);
        let gate = activate(self.activation, self.gate.forward(x.reshape([batch * length, hidden_size])));
        Ok(self.projection.forward(gate * own).reshape([batch, length, hidden_size]))
    }
}
