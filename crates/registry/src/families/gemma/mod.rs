//! Google's Gemma models: scaled embeddings, norms with an offset of one.

#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod gemma;
pub mod gemma2;
pub mod gemma3_text;
pub mod vaultgemma;

use super::prelude::*;

/// Gemma's text models attend in both directions when used as encoders.
pub(super) fn refuse_bidirectional(config: &FamilyConfig<'_>) -> Result<(), RegistryError> {
    if config.bool("use_bidirectional_attention")? {
        let reason = "each position would see later ones (an embedding model): the logits of a causal language model would be \
                      others";
        return Err(config.unsupported("use_bidirectional_attention", reason));
    }
    Ok(())
}

impl Template {
    /// Embeddings scaled by the square root of the width; norms with an offset of one.
    pub(super) fn with_gemma_embedding_and_norms(mut self) -> Self {
        self.embedding.scale = Some((self.hidden_size as f64).sqrt());
        self.norm.kind = NormKind::RmsOneOffset;
        self
    }

    /// What Gemma 2 and 3 share; without positions.
    pub(super) fn gemma2(config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        let keys = Keys { activation: Some("hidden_activation"), ..Keys::LLAMA };
        let mut template = Self::read(config, &keys)?.with_gemma_embedding_and_norms();
        template.layer = LayerSpec::sandwich;
        template.attention.bias = attention_bias(config)?;
        template.attention.scale = config.f64("query_pre_attn_scalar")?.powf(-0.5);
        template.attention.softcap = config.f64_or_null("attn_logit_softcapping")?;
        template.head.logit_softcap = config.f64_or_null("final_logit_softcapping")?;
        Ok(template)
    }
}
