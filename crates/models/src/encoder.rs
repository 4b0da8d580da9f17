//! Models whose result is hidden states.

use crate::linears::Linears;
use crate::{Backbone, CacheOptions, Linear, Model, ModelError, ModelOptions, TokenBatch, generic, skeleton};
use automodel_registry::spec::{ModelSpec, Task};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// A model that gives each token a hidden state: for embeddings, and for heads of other tasks.
pub trait Encoder: Model {
    /// Token ids are below it.
    fn vocab_size(&self) -> usize;

    /// Width of the hidden states.
    fn hidden_size(&self) -> usize;

    /// Longest sequence that the model was made for, if it has one.
    fn max_position_embeddings(&self) -> Option<usize>;

    /// Hidden states `[batch, length, hidden_size]` after the final norm. Those of padded positions mean nothing.
    ///
    /// # Errors
    /// [`ModelError`] if the batch does not fit the vocabulary or the learned positions.
    fn encode(&self, batch: &TokenBatch) -> Result<Tensor<3>, ModelError>;
}

/// A backbone by itself, built from a [`ModelSpec`]. Its parameters have the paths that they have in a
/// [`Decoder`](crate::Decoder): `model.layers.0` and so on.
#[derive(Module, Debug)]
pub struct BackboneEncoder {
    /// All of it.
    pub model: Backbone,
}

impl BackboneEncoder {
    /// An encoder without values: allocates no weights.
    ///
    /// # Errors
    /// [`ModelError::UnsupportedSpec`] for a spec that contradicts itself or is for another task.
    pub fn new(spec: &ModelSpec, options: ModelOptions, device: &Device) -> Result<Self, ModelError> {
        spec.validate().map_err(|reason| ModelError::UnsupportedSpec { reason })?;
        match spec.task {
            Task::Embed => skeleton::build(
                |to| spec.declare(to),
                device,
                |parameters| Ok(Self { model: Backbone::new(&spec.backbone, options, &parameters.at("model"))? }),
            ),
            Task::CausalLm(_) => Err(ModelError::UnsupportedSpec {
                reason: "its task is the next token, and an encoder has no head for that".to_owned(),
            }),
        }
    }
}

impl Linears for BackboneEncoder {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        let Self { model } = self;
        model.for_each_linear(&format!("{path}model"), visit);
    }
}

generic::model!(BackboneEncoder);

impl Encoder for BackboneEncoder {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn hidden_size(&self) -> usize {
        self.model.hidden_size()
    }

    fn max_position_embeddings(&self) -> Option<usize> {
        self.model.max_position_embeddings()
    }

    fn encode(&self, batch: &TokenBatch) -> Result<Tensor<3>, ModelError> {
        let options = CacheOptions { batch_size: batch.batch_size(), capacity: Some(batch.length()) };
        self.model.forward(batch, &mut self.model.new_cache(&options))
    }
}
