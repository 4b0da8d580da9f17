//! Cohere's models: parallel branches off one layer norm.

#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod cohere;
pub mod cohere2;
pub mod cohere2_moe;

use super::prelude::*;

impl Template {
    /// What Cohere's models share.
    pub(super) fn with_cohere_head_and_norms(mut self, config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        self.norm.kind = NormKind::LayerNormInFloat32;
        self.layer = LayerSpec::parallel_shared;
        self.attention.bias = attention_bias(config)?;
        self.head.logit_scale = config.f64_or_null("logit_scale")?;
        Ok(self)
    }
}
