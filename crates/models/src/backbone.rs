//! Embedding, layers and final norm, where there is one: from token ids to hidden states.

use crate::linears::Linears;
use crate::mixer::Ropes;
use crate::pass::{Pass, SharedKeyValues};
use crate::skeleton::Skeleton;
use crate::{CacheOptions, DecodeCache, Layer, Linear, MixerState, ModelError, Norm, TokenBatch, sinusoids};
#[cfg(feature = "cube")]
use automodel_attention::step::StepPosition;
use automodel_attention::{Positions, Rope, SdpaBackend};
use automodel_quant::Precision;
use automodel_registry::spec::{self, EmbeddingSpec, LearnedPositions};
use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Int, Tensor, TensorData};
use std::sync::Arc;

/// Embedding, layers and final norm.
#[derive(Module, Debug)]
pub struct Backbone {
    /// `[vocab_size, hidden_size]`, or with the width that `project_in` projects from.
    pub embed_tokens: Embedding,
    /// From the width of the embedding to that of the residual stream.
    pub project_in: Option<Linear>,
    /// `[positions, hidden_size]`
    pub embed_positions: Option<Embedding>,
    /// The norm on embedded tokens.
    pub embed_norm: Option<Norm>,
    /// The embeddings for each layer.
    pub layer_embeddings: Option<LayerEmbeddings>,
    /// The layers.
    pub layers: Vec<Layer>,
    /// The norm after them, where the layers do not normalise what they give.
    pub norm: Option<Norm>,
    #[module(skip)]
    ropes: Arc<Vec<Rope>>,
    #[module(skip)]
    facts: Facts,
}

/// A table of vectors.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[rows, hidden_size]`
    pub weight: Param<Tensor<2>>,
}

/// Embeddings that tokens have for each layer.
#[derive(Module, Debug)]
pub struct LayerEmbeddings {
    /// `[rows, layers * width]`
    pub embed_tokens: Embedding,
    /// `[layers * width, hidden_size]`
    pub projection: Linear,
    /// Over the vector of one layer.
    pub norm: Norm,
    #[module(skip)]
    width: usize,
}

/// How a model runs, besides its mathematics.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    /// How attention is computed.
    pub attention: SdpaBackend,
    /// The dtype of activations; `None` for that of the token embedding. Weights of projections may have another.
    pub activations: Option<FloatDType>,
    /// How products of a few rows with quantised weights are computed.
    pub precision: Precision,
}

impl ModelOptions {
    /// Activations as the token embedding, exact products.
    pub fn new(attention: SdpaBackend) -> Self {
        Self { attention, activations: None, precision: Precision::Exact }
    }
}

/// What a forward pass needs to know besides parameters.
#[derive(Clone, Debug)]
struct Facts {
    vocab_size: usize,
    hidden_size: usize,
    max_position_embeddings: Option<usize>,
    embedding: EmbeddingSpec,
    cache_valid_to: Option<usize>,
    /// Layers whose keys and values later ones attend to.
    shared_key_values: Vec<usize>,
    options: ModelOptions,
}

impl Linears for Backbone {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        if let Some(by_layer) = &mut self.layer_embeddings {
            visit(&format!("{path}.layer_embeddings.projection"), &mut by_layer.projection);
        }
        if let Some(project_in) = &mut self.project_in {
            visit(&format!("{path}.project_in"), project_in);
        }
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.for_each_linear(&format!("{path}.layers.{index}"), visit);
        }
    }
}

impl Backbone {
    /// A backbone without values.
    pub(crate) fn new(
        spec: &spec::Backbone,
        options: ModelOptions,
        parameters: &Skeleton<'_>,
    ) -> Result<Self, ModelError> {
        let mut ropes = Ropes::default();
        let mut layers = Vec::with_capacity(spec.layers.len());
        let mut states = 0;
        for (index, layer) in spec.layers.iter().enumerate() {
            layers.push(Layer::new(layer, index, states, &parameters.at(&format!("layers.{index}")), &mut ropes)?);
            states += layer.mixers().count();
        }
        let cache_valid_to = ropes.cache_valid_to();
        let positions = spec.embedding.learned_positions.as_ref();
        let positions = positions.map(|_| parameters.tensor("embed_positions.weight")).transpose()?;
        Ok(Self {
            embed_tokens: Embedding { weight: parameters.tensor("embed_tokens.weight")? },
            project_in: spec.embedding.projected_from.map(|_| parameters.linear("project_in")).transpose()?,
            embed_positions: positions.map(|weight| Embedding { weight }),
            embed_norm: spec.embedding.norm.map(|norm| parameters.norm("embed_norm", norm)).transpose()?,
            layer_embeddings: match spec.embedding.by_layer {
                Some(ref by_layer) => Some(LayerEmbeddings::of(by_layer, &parameters.at("layer_embeddings"))?),
                None => None,
            },
            layers,
            norm: spec.final_norm.map(|norm| parameters.norm("norm", norm)).transpose()?,
            ropes: Arc::new(ropes.finish()?),
            facts: Facts {
                vocab_size: spec.vocab_size,
                hidden_size: spec.hidden_size,
                max_position_embeddings: spec.max_position_embeddings,
                embedding: spec.embedding.clone(),
                cache_valid_to,
                shared_key_values: spec.shared_key_values().collect(),
                options,
            },
        })
    }

    /// Rows of the token embedding.
    pub fn vocab_size(&self) -> usize {
        self.facts.vocab_size
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> usize {
        self.facts.hidden_size
    }

    /// Longest sequence of the training, `max_position_embeddings`, if it has one.
    pub fn max_position_embeddings(&self) -> Option<usize> {
        self.facts.max_position_embeddings
    }

    pub(crate) fn cache_valid_to(&self) -> Option<usize> {
        self.facts.cache_valid_to
    }

    pub(crate) fn options(&self) -> &ModelOptions {
        &self.facts.options
    }

    #[cfg(feature = "cube")]
    pub(crate) fn ropes(&self) -> &[Rope] {
        &self.ropes
    }

    /// An empty cache.
    pub(crate) fn new_cache(&self, options: &CacheOptions) -> DecodeCache {
        let states = self.layers.iter().flat_map(|layer| layer.new_states(options)).collect();
        DecodeCache::new(options.batch_size, states)
    }

    /// Hidden states `[batch, length, hidden_size]` after the final norm of tokens that come after what the cache holds.
    ///
    /// # Errors
    /// [`ModelError`] if the batch does not fit the cache, the vocabulary or the learned positions.
    pub fn forward(&self, batch: &TokenBatch, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        cache.check(batch)?;
        batch.check_vocabulary(self.facts.vocab_size)?;
        let padding = if cache.length() == 0 { batch.padding() } else { cache.padding() }.to_vec();
        let ids = self.embed_tokens.ids(batch.ids().iter().map(|&id| i64::from(id)));
        let x = self.forward_ids(ids, [batch.batch_size(), batch.length()], padding, cache)?;
        cache.advance(batch)?;
        Ok(x)
    }

    /// [`forward`](Self::forward) of ids `[batch * length]` on the device; the cache does not advance yet.
    pub(crate) fn forward_ids(
        &self,
        ids: Tensor<1, Int>,
        shape: [usize; 2],
        padding: Vec<usize>,
        cache: &mut DecodeCache,
    ) -> Result<Tensor<3>, ModelError> {
        let positions = Positions { query_start: cache.length(), key_start: 0, padding };
        let x = self.embed(ids.clone(), shape, &positions)?;
        let layer_embeddings = self.layer_embeddings.as_ref().map(|by_layer| by_layer.forward(ids, &x));
        let device = x.device();
        let rows = positions.rotary(shape[1]);
        let total_length = rows.iter().flatten().max().map_or(1, |last| last + 1).max(cache.announced());
        let tables = self.ropes.iter().map(|rope| rope.tables(&rows, total_length, &device));
        let ropes = tables
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| ModelError::Attention { layer: 0, source: Box::new(source) })?;
        let pass = Pass::Tokens {
            positions,
            ropes: &ropes,
            backend: self.facts.options.attention,
            key_values: SharedKeyValues::of(&self.facts.shared_key_values),
            layer_embeddings,
        };
        self.run_layers(x, &mut cache.states, &pass)
    }

    /// Embedded tokens through all layers and the final norm.
    pub(crate) fn run_layers(
        &self,
        embedded: Tensor<3>,
        states: &mut [MixerState],
        pass: &Pass<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let mut x = embedded;
        for layer in &self.layers {
            x = layer.forward(x, states, pass)?;
        }
        Ok(Norm::apply(self.norm.as_ref(), x))
    }

    fn embed(
        &self,
        ids: Tensor<1, Int>,
        [batch_size, length]: [usize; 2],
        positions: &Positions,
    ) -> Result<Tensor<3>, ModelError> {
        let mut x = self.embed_ids(ids, [batch_size, length]);
        if let Some(sinusoids) = &self.facts.embedding.sinusoids {
            let added = sinusoids::at(sinusoids, &positions.rotary(length), self.facts.hidden_size, &x.device());
            x = x.clone() + added.cast(x.dtype());
        }
        let Some((learned, table)) = self.learned_positions() else { return Ok(self.norm_embedded(x)) };
        let (end, limit) = (positions.query_start + length, learned.positions());
        if end > limit {
            return Err(ModelError::TooManyPositions { length: end, limit });
        }
        let rows = positions.rotary(length);
        // One row stands for all where nothing is padded.
        let rows = rows.iter().cycle().take(batch_size);
        let ids = table.ids(rows.flatten().map(|&position| (position + learned.offset) as i64));
        Ok(self.norm_embedded(x + table.lookup(ids, [batch_size, length])))
    }

    /// One token of each sequence, whose position is read on the device.
    #[cfg(feature = "cube")]
    pub(crate) fn embed_step(&self, tokens: Tensor<1, Int>, at: &StepPosition) -> Tensor<3> {
        let shape = [tokens.dims()[0], 1];
        let x = self.embed_ids(tokens, shape);
        let Some((learned, table)) = self.learned_positions() else { return self.norm_embedded(x) };
        let positions = (at.position.clone() - at.padding.clone()).clamp_min(0);
        self.norm_embedded(x + table.lookup(positions + learned.offset as i64, shape))
    }

    fn embed_ids(&self, ids: Tensor<1, Int>, shape: [usize; 2]) -> Tensor<3> {
        let mut x = self.embed_tokens.lookup(ids, shape);
        if let Some(dtype) = self.facts.options.activations {
            x = x.cast(dtype);
        }
        if let Some(scale) = self.facts.embedding.scale {
            x = x * scale;
        }
        match &self.project_in {
            Some(project_in) => project_in.forward_sequence(x),
            None => x,
        }
    }

    /// Whether [`embed_step`](Self::embed_step) computes all of the embedding.
    #[cfg(feature = "cube")]
    pub(crate) fn embeds_steps(&self) -> bool {
        self.facts.embedding.sinusoids.is_none()
    }

    fn norm_embedded(&self, x: Tensor<3>) -> Tensor<3> {
        Norm::apply(self.embed_norm.as_ref(), x)
    }

    fn learned_positions(&self) -> Option<(&LearnedPositions, &Embedding)> {
        self.facts.embedding.learned_positions.as_ref().zip(self.embed_positions.as_ref())
    }

    /// Positions that have an embedding, where these are learned.
    #[cfg(feature = "cube")]
    pub(crate) fn most_positions(&self) -> usize {
        self.learned_positions().map_or(usize::MAX, |(learned, _)| learned.positions())
    }
}

impl LayerEmbeddings {
    fn of(spec: &spec::LayerEmbeddings, parameters: &Skeleton<'_>) -> Result<Self, ModelError> {
        Ok(Self {
            embed_tokens: Embedding { weight: parameters.tensor("embed_tokens.weight")? },
            projection: parameters.linear("projection")?,
            norm: parameters.norm("norm", spec.norm)?,
            width: spec.width,
        })
    }

    /// `[batch, length, layers, width]` for ids `[batch * length]` that were embedded as `x` `[batch, length, hidden_size]`.
    fn forward(&self, ids: Tensor<1, Int>, x: &Tensor<3>) -> Tensor<4> {
        let [batch, length, hidden_size] = x.dims();
        let rows = self.embed_tokens.lookup(ids, [batch, length]).cast(x.dtype());
        let width = self.width;
        let shape = [batch, length, rows.dims()[2] / width, width];
        let scale = (hidden_size as f64).powf(-0.5);
        let projected = self.norm.forward((self.projection.forward_sequence(x.clone()) * scale).reshape(shape));
        (projected + rows.reshape(shape) * (width as f64).sqrt()) * std::f64::consts::FRAC_1_SQRT_2
    }
}

impl Embedding {
    /// Row numbers on the device of the table.
    fn ids(&self, ids: impl Iterator<Item = i64>) -> Tensor<1, Int> {
        let ids: Vec<i64> = ids.collect();
        let count = ids.len();
        Tensor::from_data(TensorData::new(ids, [count]), &self.weight.val().device())
    }

    fn lookup(&self, ids: Tensor<1, Int>, [batch, length]: [usize; 2]) -> Tensor<3> {
        let rows = self.weight.val().select(0, ids);
        let width = rows.dims()[1];
        rows.reshape([batch, length, width])
    }
}
