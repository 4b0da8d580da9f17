//! The built-in families, one file for each model type; those that share code are a folder, a lineage. Adding one: write its
//! file, list it in [`BUILTIN`], add a fixture.

mod apertus;
mod arcee;
mod bitnet;
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
mod internlm3;
mod iquestcoder;
mod jais2;
mod lfm2;
mod llama;
mod mistral;
mod modernbert_decoder;
mod nemotron;
mod olmo;
mod phi;
mod qwen;
pub(crate) mod remote;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;
#[cfg(test)]
mod tests;

use crate::Family;
pub(crate) use mistral::effective_model_type;

/// Every built-in family of a class in transformers, by model type; the others are in [`remote`].
pub static BUILTIN: &[&Family] = &[
    &apertus::FAMILY,
    &arcee::FAMILY,
    &bitnet::FAMILY,
    &cohere::cohere::FAMILY,
    &cohere::cohere2::FAMILY,
    &cwm::FAMILY,
    &dots1::FAMILY,
    &ernie4_5::FAMILY,
    &ernie4_5_moe::FAMILY,
    &exaone4::FAMILY,
    &fairseq::biogpt::FAMILY,
    &fairseq::opt::FAMILY,
    &fairseq::xglm::FAMILY,
    &gemma::gemma::FAMILY,
    &gemma::gemma2::FAMILY,
    &gemma::gemma3_text::FAMILY,
    &gemma::vaultgemma::FAMILY,
    &glm::glm::FAMILY,
    &glm::glm4::FAMILY,
    &glm4_moe::FAMILY,
    &gpt::codegen::FAMILY,
    &gpt::gpt2::FAMILY,
    &gpt::gpt_bigcode::FAMILY,
    &gpt::gpt_neo::FAMILY,
    &gpt::gpt_neox::FAMILY,
    &gpt::gpt_neox_japanese::FAMILY,
    &gpt::gpt_sw3::FAMILY,
    &gpt::gptj::FAMILY,
    &gpt::openai_gpt::FAMILY,
    &granite::granite::FAMILY,
    &granite::granitemoe::FAMILY,
    &granite::granitemoeshared::FAMILY,
    &helium::FAMILY,
    &hunyuan_v1_dense::FAMILY,
    &hyperclovax::FAMILY,
    &internlm3::FAMILY,
    &iquestcoder::FAMILY,
    &jais2::FAMILY,
    &lfm2::FAMILY,
    &llama::FAMILY,
    &mistral::ministral::FAMILY,
    &mistral::ministral3::FAMILY,
    &mistral::mistral::FAMILY,
    &mistral::mixtral::FAMILY,
    &modernbert_decoder::FAMILY,
    &nemotron::FAMILY,
    &olmo::olmo::FAMILY,
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
    pub(super) use crate::rope::{FIXED_NTK_ALPHA, LayerTypeThetas, RopeByLayerType};
    pub(super) use crate::spec::*;
    pub(super) use crate::template::{Keys, Template, layer_types, mask_of};
    pub(super) use crate::weights::{Layout, PACKED_GATE_UP, PackOrder, Rule, packed_qkv};
    pub(super) use crate::{Family, FamilyConfig, RegistryError};
    pub(super) use automodel_config::DefaultValue::*;
    pub(super) use automodel_config::{ClassDefaults, RopeDefaults, RopeLayer, RopeOptions};
}
