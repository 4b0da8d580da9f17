//! Ai2's OLMo models.

pub mod flex_olmo;
#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod olmo;
pub mod olmo2;
pub mod olmo3;
pub mod olmoe;

use super::prelude::*;

impl Template {
    /// What OLMo 2 and 3 share: norms after each branch and over whole queries and keys; without positions.
    pub(super) fn olmo2(config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        let mut template = Self::read(config, &Keys::LLAMA)?;
        template.norm.kind = NormKind::RmsProductInFloat32;
        template.layer = LayerSpec::post;
        template.attention.bias = attention_bias(config)?;
        Ok(template.with_qk_norm(QkNormExtent::Projection))
    }
}
