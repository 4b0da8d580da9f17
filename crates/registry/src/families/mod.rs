//! The built-in families, one file each. Adding one: write its file, list it here, add a fixture.

mod cohere;
mod cohere2;
mod common;
mod ernie4_5;
mod exaone4;
mod gemma;
mod gemma2;
mod gemma3_text;
mod glm4;
mod gpt2;
mod gpt_neox;
mod granite;
mod helium;
mod llama;
mod ministral;
mod mistral;
mod mixtral;
mod olmo2;
mod olmo3;
mod olmoe;
mod phi;
mod phi3;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;
#[cfg(test)]
mod tests;

use crate::Family;

/// Every built-in family, by model type.
pub static BUILTIN: &[&Family] = &[
    &cohere::FAMILY,
    &cohere2::FAMILY,
    &ernie4_5::FAMILY,
    &exaone4::FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3_text::FAMILY,
    &glm4::FAMILY,
    &gpt2::FAMILY,
    &gpt_neox::FAMILY,
    &granite::FAMILY,
    &helium::FAMILY,
    &llama::FAMILY,
    &ministral::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &olmo2::FAMILY,
    &olmo3::FAMILY,
    &olmoe::FAMILY,
    &phi::FAMILY,
    &phi3::FAMILY,
    &qwen2::FAMILY,
    &qwen2_moe::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
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
    pub(super) use crate::template::{InConfig, Keys, Template, layer_types, mask_of};
    pub(super) use crate::weights::{Layout, PACKED_GATE_UP, PackOrder, Rule, packed_qkv};
    pub(super) use crate::{Family, RegistryError};
    pub(super) use automodel_config::DefaultValue::*;
    pub(super) use automodel_config::{ClassDefaults, ResolvedConfig, RopeDefaults, RopeOptions};
}
