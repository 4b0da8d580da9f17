//! The generic decoder: any [`ModelSpec`] whose task is the next token.

use crate::linears::Linears;
use crate::{
    Backbone, CacheOptions, CausalLm, DecodeCache, HeadTransform, Linear, LogitsFor, ModelError, ModelOptions,
    TokenBatch, generic, skeleton,
};
use automodel_registry::spec::{HeadSpec, ModelSpec};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

/// A decoder-only language model built from a [`ModelSpec`].
#[derive(Module, Debug)]
pub struct Decoder {
    /// Everything before the head.
    pub model: Backbone,
    /// What the head's input goes through.
    pub head_transform: Option<HeadTransform>,
    /// `[vocab_size, hidden_size]`; shares the embedding's storage when tied.
    pub lm_head: Linear,
    #[module(skip)]
    head: HeadSpec,
}

impl Decoder {
    /// A decoder without values: allocates no weights.
    ///
    /// # Errors
    /// [`ModelError::UnsupportedSpec`] for a spec that contradicts itself or is for another task, or a rotary embedding that makes no
    /// sense.
    pub fn new(spec: &ModelSpec, options: ModelOptions, device: &Device) -> Result<Self, ModelError> {
        spec.validate().map_err(|reason| ModelError::UnsupportedSpec { reason })?;
        let head = spec.head().ok_or_else(|| ModelError::UnsupportedSpec {
            reason: "its task is not the next token: it has no output head".to_owned(),
        })?;
        skeleton::build(
            |to| spec.declare(to),
            device,
            |parameters| {
                Ok(Self {
                    model: Backbone::new(&spec.backbone, options, &parameters.at("model"))?,
                    head_transform: match &head.transform {
                        Some(transform) => Some(HeadTransform::of(transform, &parameters.at("head_transform"))?),
                        None => None,
                    },
                    lm_head: parameters.linear("lm_head")?,
                    head: head.clone(),
                })
            },
        )
    }

    pub(crate) fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let hidden = match &self.head_transform {
            Some(transform) => transform.forward(hidden),
            None => hidden,
        };
        let mut logits = self.lm_head.forward_sequence(hidden).cast(DType::F32);
        if self.head.unit_rows {
            logits = logits / self.lm_head.row_lengths().unsqueeze::<3>();
        }
        if let Some(scale) = self.head.logit_scale {
            logits = logits * scale;
        }
        match self.head.logit_softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}

impl Linears for Decoder {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        let Self { model, head_transform, lm_head, head: _ } = self;
        model.for_each_linear(&format!("{path}model"), visit);
        if let Some(transform) = head_transform {
            transform.for_each_linear(&format!("{path}head_transform"), visit);
        }
        visit(&format!("{path}lm_head"), lm_head);
    }
}

generic::model!(Decoder);

impl CausalLm for Decoder {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn max_position_embeddings(&self) -> Option<usize> {
        self.model.max_position_embeddings()
    }

    fn cache_valid_to(&self) -> Option<usize> {
        self.model.cache_valid_to()
    }

    fn new_cache(&self, options: &CacheOptions) -> DecodeCache {
        self.model.new_cache(options)
    }

    fn forward(&self, batch: &TokenBatch, logits: LogitsFor, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        let hidden = self.model.forward(batch, cache)?;
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
        // Clamps the sentinel of a sampler that found no token: the logits of that row are ignored.
        let hidden = self.model.forward_ids(tokens.clamp_min(0), [batch_size, 1], padding, cache)?;
        cache.advance_by_one();
        Ok(self.logits(hidden))
    }

    #[cfg(feature = "cube")]
    fn captured_decode(
        &self,
        cache: &DecodeCache,
        limit: usize,
        tokens: Tensor<1, Int>,
        capture: bool,
    ) -> Result<Option<crate::CapturedDecode>, ModelError> {
        crate::CapturedDecode::new(self, cache, limit, tokens, capture)
    }

    fn supports_chunked_prefill(&self) -> bool {
        true
    }

    fn prefill(&self, batch: &TokenBatch, cache: &mut DecodeCache) -> Result<(), ModelError> {
        self.model.forward(batch, cache).map(drop)
    }
}
