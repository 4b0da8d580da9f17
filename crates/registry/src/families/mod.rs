//! The built-in families, one file for each model type; those that share code are a folder, a lineage. Adding one: write its
//! file, list it in [`BUILTIN`], add a fixture.

mod cohere;
mod common;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone4;
mod gemma;
mod glm4;
mod glm4_moe;
mod gpt;
mod granite;
mod helium;
mod lfm2;
mod llama;
mod mistral;
mod olmo;
mod phi;
mod qwen;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;
#[cfg(test)]
mod tests;

use crate::Family;
pub(crate) use mistral::effective_model_type;

/// Every built-in family, by model type.
pub static BUILTIN: &[&Family] = &[
    &cohere::cohere::FAMILY,
    &cohere::cohere2::FAMILY,
    &dots1::FAMILY,
    &ernie4_5::FAMILY,
    &ernie4_5_moe::FAMILY,
    &exaone4::FAMILY,
    &gemma::gemma::FAMILY,
    &gemma::gemma2::FAMILY,
    &gemma::gemma3_text::FAMILY,
    &glm4::FAMILY,
    &glm4_moe::FAMILY,
    &gpt::gpt2::FAMILY,
    &gpt::gpt_neox::FAMILY,
    &granite::granite::FAMILY,
    &granite::granitemoe::FAMILY,
    &granite::granitemoeshared::FAMILY,
    &helium::FAMILY,
    &lfm2::FAMILY,
    &llama::FAMILY,
    &mistral::ministral::FAMILY,
    &mistral::mistral::FAMILY,
    &mistral::mixtral::FAMILY,
    &olmo::olmo2::FAMILY,
    &olmo::olmo3::FAMILY,
    &olmo::olmoe::FAMILY,
    &phi::phi::FAMILY,
    &phi::phi3::FAMILY,
    &qwen::qwen2::FAMILY,
    &qwen::qwen2_moe::FAMILY,
    &qwen::qwen3::FAMILY,
    &qwen::qwen3_moe::FAMILY,
    &seed_oss::FAMILY,
    &smollm3::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
];

/// What family files are written with.
mod prelude {
    pub(super) use super::common::*;
    pub(super) use crate::rope::{LayerTypeThetas, RopeByLayerType};
    pub(super) use crate::spec::*;
    pub(super) use crate::template::{Keys, Template, layer_types, mask_of};
    pub(super) use crate::weights::{Layout, PACKED_GATE_UP, PackOrder, Rule, packed_qkv};
    pub(super) use crate::{Family, FamilyConfig, RegistryError};
    pub(super) use automodel_config::DefaultValue::*;
    pub(super) use automodel_config::{ClassDefaults, RopeDefaults, RopeOptions};
}
