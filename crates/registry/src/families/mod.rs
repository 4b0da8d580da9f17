//! The built-in families, one file for each model type; those that share code are a folder, a lineage. Adding one: write its
//! file, list it in [`BUILTIN`], add a fixture.

mod arcee;
mod aria_text;
mod cohere;
mod common;
mod cwm;
mod dbrx;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone;
mod fairseq;
mod gemma;
mod glm;
mod glm4_moe;
mod gpt;
mod gpt_oss;
mod granite;
mod helium;
mod hunyuan;
mod hy_v3;
mod hyperclovax;
mod kolibri1;
mod lfm2;
mod llama;
mod mellum;
mod minimax_m2;
mod mistral;
mod nemotron;
mod olmo;
mod phi;
mod qwen;
mod seed_oss;
mod smollm3;
mod solar_open;
mod stablelm;
mod starcoder2;
#[cfg(test)]
mod tests;

use crate::Family;
pub(crate) use mistral::effective_model_type;

/// Every built-in family, by model type.
pub static BUILTIN: &[&Family] = &[
    &arcee::FAMILY,
    &aria_text::FAMILY,
    &cohere::cohere::FAMILY,
    &cohere::cohere2::FAMILY,
    &cohere::cohere2_moe::FAMILY,
    &cwm::FAMILY,
    &dbrx::FAMILY,
    &dots1::FAMILY,
    &ernie4_5::FAMILY,
    &ernie4_5_moe::FAMILY,
    &exaone::exaone4::FAMILY,
    &exaone::exaone_moe::FAMILY,
    &fairseq::biogpt::FAMILY,
    &fairseq::opt::FAMILY,
    &gemma::gemma::FAMILY,
    &gemma::gemma2::FAMILY,
    &gemma::gemma3_text::FAMILY,
    &glm::glm::FAMILY,
    &glm::glm4::FAMILY,
    &glm4_moe::FAMILY,
    &gpt::codegen::FAMILY,
    &gpt::gpt2::FAMILY,
    &gpt::gpt_bigcode::FAMILY,
    &gpt::gpt_neo::FAMILY,
    &gpt::gpt_neox::FAMILY,
    &gpt::gptj::FAMILY,
    &gpt_oss::FAMILY,
    &granite::granite::FAMILY,
    &granite::granitemoe::FAMILY,
    &granite::granitemoeshared::FAMILY,
    &helium::FAMILY,
    &hunyuan::hunyuan_v1_dense::FAMILY,
    &hunyuan::hunyuan_v1_moe::FAMILY,
    &hy_v3::FAMILY,
    &hyperclovax::FAMILY,
    &kolibri1::FAMILY,
    &lfm2::FAMILY,
    &llama::FAMILY,
    &mellum::FAMILY,
    &minimax_m2::FAMILY,
    &mistral::ministral::FAMILY,
    &mistral::mistral::FAMILY,
    &mistral::mixtral::FAMILY,
    &nemotron::FAMILY,
    &olmo::flex_olmo::FAMILY,
    &olmo::olmo::FAMILY,
    &olmo::olmo2::FAMILY,
    &olmo::olmo3::FAMILY,
    &olmo::olmoe::FAMILY,
    &phi::phi::FAMILY,
    &phi::phi3::FAMILY,
    &phi::phimoe::FAMILY,
    &qwen::qwen2::FAMILY,
    &qwen::qwen2_moe::FAMILY,
    &qwen::qwen3::FAMILY,
    &qwen::qwen3_moe::FAMILY,
    &seed_oss::FAMILY,
    &smollm3::FAMILY,
    &solar_open::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
];

/// What family files are written with.
mod prelude {
    pub(super) use super::common::*;
    pub(super) use crate::rope::{FIXED_NTK_ALPHA, LayerTypeThetas, RopeByLayerType};
    pub(super) use crate::spec::*;
    pub(super) use crate::template::{Keys, Template, layer_types, mask_of};
    pub(super) use crate::weights::{
        Layout, PACKED_EXPERTS, PACKED_GATE_UP, PackOrder, Rule, STACKED_EXPERTS, packed_qkv,
    };
    pub(super) use crate::{Family, FamilyConfig, RegistryError};
    pub(super) use automodel_config::DefaultValue::*;
    pub(super) use automodel_config::{ClassDefaults, RopeDefaults, RopeOptions};
}
