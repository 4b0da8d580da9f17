//! The generic decoder: any [`ModelSpec`], as a Burn module.

use crate::attention::PassContext;
use crate::linears::Linears;
use crate::parameters::{self, ParameterTensor};
use crate::{
    CacheOptions, CausalLm, DecodeCache, DecoderLayer, LayerState, Linear, LogitsFor, ModelError, Norm, TokenBatch,
    Weight, convert,
};
#[cfg(feature = "cube")]
use automodel_attention::step::StepPosition;
use automodel_attention::{Positions, Rope, SdpaBackend};
use automodel_quant::{Precision, QuantLinear};
use automodel_registry::spec::{EmbeddingSpec, HeadSpec, LearnedPositions, Mixer, ModelSpec, RopeScaling, RopeSpec};
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use std::sync::Arc;

/// A decoder-only language model built from a [`ModelSpec`].
#[derive(Module, Debug)]
pub struct Decoder {
    /// Everything before the head.
    pub model: DecoderModel,
    /// `[vocab_size, hidden_size]`; shares the embedding's storage when tied.
    pub lm_head: Linear,
    #[module(skip)]
    ropes: Arc<Vec<Rope>>,
    #[module(skip)]
    facts: Facts,
}

/// Everything before the head.
#[derive(Module, Debug)]
pub struct DecoderModel {
    /// `[vocab_size, hidden_size]`
    pub embed_tokens: Embedding,
    /// `[positions, hidden_size]`
    pub embed_positions: Option<Embedding>,
    /// The layers.
    pub layers: Vec<DecoderLayer>,
    /// The norm after them.
    pub norm: Norm,
}

/// A table of vectors.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[rows, hidden_size]`
    pub weight: Param<Tensor<2>>,
}

/// How a decoder runs, besides its mathematics.
#[derive(Clone, Copy, Debug)]
pub struct DecoderOptions {
    /// How attention is computed.
    pub attention: SdpaBackend,
    /// The dtype of activations; `None` for that of the token embedding. Weights of projections may have another.
    pub activations: Option<FloatDType>,
    /// How products of a few rows with 4-bit weights are computed.
    pub precision: Precision,
}

impl DecoderOptions {
    /// Activations as the token embedding, exact products.
    pub fn new(attention: SdpaBackend) -> Self {
        Self { attention, activations: None, precision: Precision::Exact }
    }
}

/// What a forward pass needs to know besides parameters.
#[derive(Clone, Debug)]
struct Facts {
    vocab_size: usize,
    max_position_embeddings: Option<usize>,
    embedding: EmbeddingSpec,
    head: HeadSpec,
    cache_valid_to: Option<usize>,
    options: DecoderOptions,
}

impl Decoder {
    /// A decoder without values: allocates no weights.
    ///
    /// # Errors
    /// [`ModelError::UnsupportedSpec`] for a spec that contradicts itself or a rotary embedding that makes no sense.
    pub fn new(spec: &ModelSpec, options: DecoderOptions, device: &Device) -> Result<Self, ModelError> {
        spec.validate().map_err(|reason| ModelError::UnsupportedSpec { reason })?;
        let (ropes, rope_of_layer) = distinct_ropes(spec)?;
        let layers = spec.layers.iter().zip(rope_of_layer);
        let table = |rows| Embedding { weight: parameters::empty([rows, spec.hidden_size], device) };
        Ok(Self {
            model: DecoderModel {
                embed_tokens: table(spec.vocab_size),
                embed_positions: spec.embedding.learned_positions.as_ref().map(|positions| table(positions.rows)),
                layers: layers.map(|(layer, rope)| DecoderLayer::new(spec.hidden_size, layer, rope, device)).collect(),
                norm: Norm::new(spec.final_norm, [spec.hidden_size], device),
            },
            lm_head: Linear::new(spec.hidden_size, spec.vocab_size, spec.head.bias, device),
            ropes: Arc::new(ropes),
            facts: Facts {
                vocab_size: spec.vocab_size,
                max_position_embeddings: spec.max_position_embeddings,
                embedding: spec.embedding.clone(),
                head: spec.head.clone(),
                cache_valid_to: cache_valid_to(spec),
                options,
            },
        })
    }

    /// The residual stream `[batch, length, hidden_size]` after the final norm, before the head.
    ///
    /// # Errors
    /// As [`CausalLm::forward`].
    pub fn hidden_states(&self, batch: &TokenBatch, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        cache.check(batch)?;
        self.check_vocabulary(batch)?;
        let padding = if cache.length() == 0 { batch.padding() } else { cache.padding() }.to_vec();
        let ids = self.model.embed_tokens.ids(batch.ids().iter().map(|&id| i64::from(id)));
        let x = self.run(ids, [batch.batch_size(), batch.length()], padding, cache)?;
        cache.advance(batch)?;
        Ok(x)
    }

    /// Runs ids `[batch * length]` after what the cache holds; the cache does not advance yet.
    fn run(
        &self,
        ids: Tensor<1, Int>,
        shape: [usize; 2],
        padding: Vec<usize>,
        cache: &mut DecodeCache,
    ) -> Result<Tensor<3>, ModelError> {
        let positions = Positions { query_start: cache.length(), key_start: 0, padding };
        let mut x = self.embed(ids, shape, &positions)?;
        let device = x.device();
        let rows = positions.rotary(shape[1]);
        let total_length = rows.iter().flatten().max().map_or(1, |last| last + 1).max(cache.announced());
        let tables = self.ropes.iter().map(|rope| rope.tables(&rows, total_length, &device));
        let rope_tables = tables
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| ModelError::Attention { layer: 0, source: Box::new(source) })?;
        let context = PassContext { positions, rope_tables: &rope_tables, backend: self.facts.options.attention };
        for (index, layer) in self.model.layers.iter().enumerate() {
            let state = cache.layers.get_mut(index).ok_or(ModelError::ForeignCache { layer: index })?;
            x = layer.forward(x, index, state, &context)?;
        }
        Ok(self.model.norm.forward(x))
    }

    #[cfg(feature = "cube")]
    pub(crate) fn attention_backend(&self) -> SdpaBackend {
        self.facts.options.attention
    }

    #[cfg(feature = "cube")]
    pub(crate) fn ropes(&self) -> &[Rope] {
        &self.ropes
    }

    fn check_vocabulary(&self, batch: &TokenBatch) -> Result<(), ModelError> {
        if let Some((position, &token)) =
            batch.ids().iter().enumerate().find(|&(_, &id)| id as usize >= self.facts.vocab_size)
        {
            let (row, position) = (position / batch.length(), position % batch.length());
            return Err(ModelError::TokenOutOfVocabulary { token, row, position, vocab_size: self.facts.vocab_size });
        }
        Ok(())
    }

    fn embed(
        &self,
        ids: Tensor<1, Int>,
        [batch_size, length]: [usize; 2],
        positions: &Positions,
    ) -> Result<Tensor<3>, ModelError> {
        let x = self.embed_tokens(ids, [batch_size, length]);
        let Some((learned, table)) = self.learned_positions() else { return Ok(x) };
        let (end, limit) = (positions.query_start + length, learned.positions());
        if end > limit {
            return Err(ModelError::TooManyPositions { length: end, limit });
        }
        let rows = positions.rotary(length);
        // One row stands for all where nothing is padded.
        let rows = rows.iter().cycle().take(batch_size);
        let ids = table.ids(rows.flatten().map(|&position| (position + learned.offset) as i64));
        Ok(x + table.lookup(ids, [batch_size, length]))
    }

    /// One token of each sequence, whose position the device knows.
    #[cfg(feature = "cube")]
    pub(crate) fn embed_step(&self, tokens: Tensor<1, Int>, at: &StepPosition) -> Tensor<3> {
        let shape = [tokens.dims()[0], 1];
        let x = self.embed_tokens(tokens, shape);
        let Some((learned, table)) = self.learned_positions() else { return x };
        let positions = (at.position.clone() - at.padding.clone()).clamp_min(0);
        x + table.lookup(positions + learned.offset as i64, shape)
    }

    fn embed_tokens(&self, ids: Tensor<1, Int>, shape: [usize; 2]) -> Tensor<3> {
        let mut x = self.model.embed_tokens.lookup(ids, shape);
        if let Some(dtype) = self.facts.options.activations {
            x = x.cast(dtype);
        }
        match self.facts.embedding.scale {
            Some(scale) => x * scale,
            None => x,
        }
    }

    fn learned_positions(&self) -> Option<(&LearnedPositions, &Embedding)> {
        self.facts.embedding.learned_positions.as_ref().zip(self.model.embed_positions.as_ref())
    }

    /// Positions that there are embeddings for, where they are learned.
    #[cfg(feature = "cube")]
    pub(crate) fn most_positions(&self) -> usize {
        self.learned_positions().map_or(usize::MAX, |(learned, _)| learned.positions())
    }

    pub(crate) fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let mut logits = self.lm_head.forward_sequence(hidden).cast(DType::F32);
        if let Some(scale) = self.facts.head.logit_scale {
            logits = logits * scale;
        }
        match self.facts.head.logit_softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}

impl CausalLm for Decoder {
    fn vocab_size(&self) -> usize {
        self.facts.vocab_size
    }

    fn max_position_embeddings(&self) -> Option<usize> {
        self.facts.max_position_embeddings
    }

    fn cache_valid_to(&self) -> Option<usize> {
        self.facts.cache_valid_to
    }

    fn device(&self) -> Device {
        self.model.embed_tokens.weight.lazy_device()
    }

    fn new_cache(&self, options: &CacheOptions) -> DecodeCache {
        let layers: Vec<LayerState> = self.model.layers.iter().map(|layer| layer.new_cache(options)).collect();
        DecodeCache::new(options.batch_size, layers)
    }

    fn forward(&self, batch: &TokenBatch, logits: LogitsFor, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        let hidden = self.hidden_states(batch, cache)?;
        let hidden = match logits {
            LogitsFor::All => hidden,
            LogitsFor::Last => {
                let last = batch.length() - 1;
                hidden.slice_dim(1, last..last + 1)
            }
        };
        Ok(self.logits(hidden))
    }

    fn forward_tokens(&self, tokens: Tensor<1, Int>, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        let [batch_size] = tokens.dims();
        let padding = cache.padding().to_vec();
        cache.check_size(batch_size)?;
        // Where a sampler found no token, its row goes on with any.
        let hidden = self.run(tokens.clamp_min(0), [batch_size, 1], padding, cache)?;
        cache.advance_by_one();
        Ok(self.logits(hidden))
    }

    #[cfg(feature = "cube")]
    fn captured_decode(
        &self,
        cache: &DecodeCache,
        limit: usize,
        tokens: Tensor<1, Int>,
        record: bool,
    ) -> Result<Option<crate::CapturedDecode>, ModelError> {
        crate::CapturedDecode::new(self, cache, limit, tokens, record)
    }

    fn supports_chunked_prefill(&self) -> bool {
        true
    }

    fn prefill(&self, batch: &TokenBatch, cache: &mut DecodeCache) -> Result<(), ModelError> {
        self.hidden_states(batch, cache).map(drop)
    }

    fn visit_parameters(&self, visit: &mut dyn FnMut(&str, &[usize])) {
        parameters::visit(self, visit);
    }

    fn assign_parameters(
        &mut self,
        provide: &mut dyn FnMut(&str) -> Option<ParameterTensor>,
    ) -> Result<(), ModelError> {
        let (filled, outcome) = parameters::assign(self.clone(), provide);
        *self = filled;
        outcome
    }

    fn assign_quantized(&mut self, provide: &mut dyn FnMut(&str) -> Option<QuantLinear>) -> Result<(), ModelError> {
        let precision = self.facts.options.precision;
        let mut outcome = Ok(());
        self.for_each_linear("", &mut |path, linear| {
            let path = format!("{path}.weight");
            if outcome.is_ok()
                && let Some(weight) = provide(&path)
            {
                outcome = linear.set_quantized(&path, weight, precision);
            }
        });
        outcome
    }

    fn pack_experts(&mut self) {
        for layer in &mut self.model.layers {
            layer.pack_experts();
        }
    }

    fn read_parameters(&self, read: &mut dyn FnMut(&str, ParameterTensor)) {
        parameters::read(self, read);
    }

    fn read_quantized(&self, read: &mut dyn FnMut(&str, &QuantLinear)) {
        // The walk borrows mutably; a clone shares all storage.
        self.clone().for_each_linear("", &mut |path, linear| {
            if let Weight::Quantized(layer) = &linear.weight {
                read(&format!("{path}.weight"), layer);
            }
        });
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

/// The shortest length beyond which some layer's angles ask for a sequence to be computed again.
fn cache_valid_to(spec: &ModelSpec) -> Option<usize> {
    let limit = |rope: &RopeSpec| match &rope.scaling {
        RopeScaling::LongRope(scaling) => scaling.cache_valid_to,
        _ => None,
    };
    let ropes = spec.layers.iter().filter_map(|layer| {
        let Mixer::Attention(attention) = &layer.mixer;
        attention.rope.as_ref()
    });
    ropes.filter_map(limit).min()
}

/// Each distinct rotary embedding once, and for each layer which one it uses.
fn distinct_ropes(spec: &ModelSpec) -> Result<(Vec<Rope>, Vec<Option<usize>>), ModelError> {
    let mut configs = Vec::new();
    let mut of_layer = Vec::with_capacity(spec.layers.len());
    for layer in &spec.layers {
        let Mixer::Attention(attention) = &layer.mixer;
        of_layer.push(attention.rope.as_ref().map(|rope| {
            let config = convert::rope(attention.head_dim, rope);
            configs.iter().position(|known| *known == config).unwrap_or_else(|| {
                configs.push(config);
                configs.len() - 1
            })
        }));
    }
    let ropes = configs.into_iter().map(Rope::new).collect::<Result<_, _>>();
    let ropes = ropes.map_err(|source| ModelError::UnsupportedSpec { reason: source.to_string() })?;
    Ok((ropes, of_layer))
}
