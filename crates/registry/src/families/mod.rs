//! The built-in families, one file for each model type; those that share code are a folder, a lineage. Adding one: write its
//! file, list it in [`BUILTIN`], add a fixture.

mod arcee;
mod cohere;
mod common;
mod cwm;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone4;
mod fairseq;
mod gemma;
mod glm;
mod glm4_moe;
mod gpt;
mod granite;
mod helium;
mod hunyuan_v1_dense;
mod hyperclovax;
mod lfm2;
mod llama;
mod mistral;
mod nemotron;
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
    &arcee::FAMILY,
    &cohere::cohere::FAMILY,
    &cohere::cohere2::FAMILY,
    &cwm::FAMILY,
    &dots1::FAMILY,
    &ernie4_5::FAMILY,
    &ernie4_5_moe::FAMILY,
    &exaone4::FAMILY,
    &fairseq::biogpt::FAMILY,
    &fairseq::opt::FAMILY,
    &gemma::gemma::FAMILY,
    &gemma::gemma2::FAMILY,
    &gemma::gemma3_text::FAMILY,
    &gemma::gemma4_text::FAMILY,
    &gemma::gemma4_unified_text::FAMILY,
    &glm::glm::FAMILY,
    &glm::glm4::FAMILY,
    &glm::glm4v_moe_text::FAMILY,
    &glm::glm4v_text::FAMILY,
    &glm4_moe::FAMILY,
    &gpt::codegen::FAMILY,
    &gpt::gpt2::FAMILY,
    &gpt::gpt_bigcode::FAMILY,
    &gpt::gpt_neo::FAMILY,
    &gpt::gpt_neox::FAMILY,
    &gpt::gptj::FAMILY,
    &granite::granite::FAMILY,
    &granite::granitemoe::FAMILY,
    &granite::granitemoeshared::FAMILY,
    &helium::FAMILY,
    &hunyuan_v1_dense::FAMILY,
    &hyperclovax::FAMILY,
    &lfm2::FAMILY,
    &llama::FAMILY,
    &mistral::ministral::FAMILY,
    &mistral::mistral::FAMILY,
    &mistral::mixtral::FAMILY,
    &nemotron::FAMILY,
    &olmo::olmo::FAMILY,
    &olmo::olmo2::FAMILY,
    &olmo::olmo3::FAMILY,
    &olmo::olmoe::FAMILY,
    &phi::phi::FAMILY,
    &phi::phi3::FAMILY,
    &qwen::qwen2::FAMILY,
    &qwen::qwen2_moe::FAMILY,
    &qwen::qwen2_vl_text::FAMILY,
    &qwen::qwen2_vl_text::QWEN2_5,
    &qwen::qwen3::FAMILY,
    &qwen::qwen3_moe::FAMILY,
    &qwen::qwen3_vl_moe_text::FAMILY,
    &qwen::qwen3_vl_text::FAMILY,
    &seed_oss::FAMILY,
    &smollm3::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
];

/// What family files are written with.
mod prelude {
    pub(super) use super::common::*;
    pub(super) use crate::rope::{FIXED_NTK_ALPHA, LayerTypeThetas, RopeByLayerType};
    pub(super) use crate::spec::*;
    pub(super) use crate::template::{Keys, LayerParts, Template, layer_types, mask_of};
    pub(super) use crate::weights::{Layout, PACKED_GATE_UP, PackOrder, Rule, packed_qkv};
    pub(super) use crate::{Family, FamilyConfig, RegistryError};
    pub(super) use automodel_config::DefaultValue::*;
    pub(super) use automodel_config::{ClassDefaults, RopeDefaults, RopeOptions};
}
