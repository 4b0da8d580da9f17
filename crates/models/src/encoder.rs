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

    /// Longest sequence of the training, `max_position_embeddings`, if it has one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Embedding;
    use crate::parameters::ParameterTensor;
    use crate::{CausalLm, Decoder, LogitsFor, initialize_random};
    use automodel_attention::SdpaBackend;
    use automodel_config::{Overrides, RawConfig};
    use automodel_registry::spec::{AttentionMask, EmbeddingSpec, LearnedPositions, Mixer, Operation};
    use automodel_registry::{Registry, ResolveOptions};
    use burn::tensor::FloatDType;

    fn spec() -> ModelSpec {
        let raw = RawConfig::from_str(
            r#"{"model_type": "gemma2", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 3}"#,
        );
        let registry = Registry::builtin();
        let options = ResolveOptions::default();
        let (config, resolution) = registry.resolve_config(&raw.unwrap(), &Overrides::new(), &options).unwrap();
        registry.lower(&config, &resolution).unwrap().spec.unwrap()
    }

    #[test]
    fn hidden_states_are_those_of_the_decoder() {
        let (device, options) = (Device::flex(), ModelOptions::new(SdpaBackend::EfficientAttention));
        let causal = spec();
        let mut decoder = Decoder::new(&causal, options, &device).unwrap();
        let embed = ModelSpec { task: Task::Embed, ..causal.clone() };
        let mut encoder = BackboneEncoder::new(&embed, options, &device).unwrap();
        // The same path and seed give the same values.
        initialize_random(&mut decoder, 7, 0.3, FloatDType::F32, 1.0, &[]).unwrap();
        initialize_random(&mut encoder, 7, 0.3, FloatDType::F32, 1.0, &[]).unwrap();

        let batch = TokenBatch::new(&[vec![1, 2, 3, 4, 5], vec![9, 8]], encoder.vocab_size()).unwrap();
        let hidden = encoder.encode(&batch).unwrap();
        assert_eq!(hidden.dims(), [2, 5, encoder.hidden_size()]);
        let mut cache = decoder.new_cache(&CacheOptions { batch_size: 2, capacity: None });
        let logits = decoder.forward(&batch, LogitsFor::All, &mut cache).unwrap();
        assert_eq!(decoder.logits(hidden).into_data(), logits.into_data());
    }

    /// Hidden states `[rows, length, hidden_size]`.
    fn encode(encoder: &BackboneEncoder, rows: &[Vec<u32>]) -> Tensor<3> {
        encoder.encode(&TokenBatch::new(rows, encoder.vocab_size()).unwrap()).unwrap()
    }

    fn apart(a: Tensor<3>, b: Tensor<3>) -> f32 {
        (a - b).abs().max().into_scalar()
    }

    #[test]
    fn bidirectional_layers_see_ahead_and_no_padding() {
        let mut spec = ModelSpec { task: Task::Embed, ..spec() };
        for layer in &mut spec.backbone.layers {
            let Operation::Mix(Mixer::Attention(attention)) = &mut layer.branches[0].operation else { panic!() };
            attention.mask = AttentionMask::Bidirectional;
        }
        for backend in [SdpaBackend::Math, SdpaBackend::EfficientAttention] {
            let mut encoder = BackboneEncoder::new(&spec, ModelOptions::new(backend), &Device::flex()).unwrap();
            initialize_random(&mut encoder, 7, 0.3, FloatDType::F32, 1.0, &[]).unwrap();
            let short = encode(&encoder, &[vec![9, 8]]);
            let padded = encode(&encoder, &[vec![1, 2, 3, 4, 5], vec![9, 8]]);
            assert!(apart(padded.slice([1..2, 3..5]), short.clone()) < 1e-5);
            let other = encode(&encoder, &[vec![9, 7]]);
            assert!(apart(short.slice_dim(1, 0..1), other.slice_dim(1, 0..1)) > 1e-2, "a later token counts");
        }
    }

    #[test]
    fn without_a_final_norm_the_last_layer_has_the_last_word() {
        let (device, options) = (Device::flex(), ModelOptions::new(SdpaBackend::Math));
        let with_norm = ModelSpec { task: Task::Embed, ..spec() };
        let mut without = with_norm.clone();
        without.backbone.final_norm = None;
        let hidden = [&with_norm, &without].map(|spec| {
            let mut encoder = BackboneEncoder::new(spec, options, &device).unwrap();
            initialize_random(&mut encoder, 7, 0.3, FloatDType::F32, 1.0, &[]).unwrap();
            (encode(&encoder, &[vec![1, 2, 3]]), encoder.model.norm)
        });
        let [(normed, Some(norm)), (plain, None)] = hidden else { panic!("one has the norm") };
        assert!(apart(normed.clone(), plain.clone()) > 1e-2);
        assert_eq!(norm.forward(plain).into_data(), normed.into_data());
    }

    #[test]
    fn embedded_tokens_are_normalised_with_their_positions() {
        let (device, options) = (Device::flex(), ModelOptions::new(SdpaBackend::Math));
        let mut spec = ModelSpec { task: Task::Embed, ..spec() };
        spec.backbone.embedding.norm = spec.backbone.final_norm;
        spec.backbone.embedding.learned_positions = Some(LearnedPositions { rows: 6, offset: 1 });
        let mut encoder = BackboneEncoder::new(&spec, options, &device).unwrap();
        initialize_random(&mut encoder, 7, 0.3, FloatDType::F32, 1.0, &[]).unwrap();
        let found = encode(&encoder, &[vec![3, 1, 2]]);

        // Rows of both tables summed by hand, and a model whose whole embedding is their normalised sum.
        let row = |table: &Embedding, row: usize| table.weight.val().slice_dim(0, row..row + 1);
        let (tokens, positions) = (&encoder.model.embed_tokens, encoder.model.embed_positions.as_ref().unwrap());
        let scale = spec.backbone.embedding.scale.unwrap();
        let sums = [(3, 1), (1, 2), (2, 3)].map(|(token, at)| row(tokens, token) * scale + row(positions, at));
        let embedded = encoder.model.embed_norm.as_ref().unwrap().forward(Tensor::cat(sums.to_vec(), 0));
        spec.backbone.embedding = EmbeddingSpec::default();
        let mut plain = BackboneEncoder::new(&spec, options, &device).unwrap();
        initialize_random(&mut plain, 7, 0.3, FloatDType::F32, 1.0, &[]).unwrap();
        let padding = Tensor::zeros([spec.backbone.vocab_size - 3, spec.backbone.hidden_size], &device);
        let table = Tensor::cat(vec![embedded, padding], 0);
        plain
            .assign_parameters(&mut |path| {
                (path == "model.embed_tokens.weight").then(|| ParameterTensor::new(table.clone()))
            })
            .unwrap();
        assert!(apart(encode(&plain, &[vec![0, 1, 2]]), found) < 1e-5);
    }

    #[test]
    fn each_module_takes_its_own_task() {
        let (device, options) = (Device::flex(), ModelOptions::new(SdpaBackend::Math));
        let causal = spec();
        let embed = ModelSpec { task: Task::Embed, ..causal.clone() };
        let refused = BackboneEncoder::new(&causal, options, &device).unwrap_err().to_string();
        assert!(refused.contains("the next token"), "{refused}");
        let refused = Decoder::new(&embed, options, &device).unwrap_err().to_string();
        assert!(refused.contains("no output head"), "{refused}");
    }
}
