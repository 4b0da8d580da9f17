//! The built-in families, one file for each model type; those that share code are a folder, a lineage. Adding one: write its
//! file, list it in [`BUILTIN`], add a fixture.

mod afmoe;
mod alibi;
mod apertus;
mod arcee;
mod aria_text;
mod axk1;
mod bitnet;
mod cohere;
mod common;
mod cwm;
mod dbrx;
mod deepseek;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone;
mod fairseq;
mod flint;
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
mod internlm3;
mod iquestcoder;
mod jais2;
mod kolibri1;
mod laguna;
mod lfm2;
mod llama;
mod llama4;
mod longcat_flash;
mod mellum;
mod mimo_v2_flash;
mod minicpm3;
mod minimax_m2;
mod mistral;
mod modernbert_decoder;
mod nanochat;
mod nemotron;
mod olmo;
mod persimmon;
mod phi;
mod qwen;
pub(crate) mod remote;
mod seed_oss;
mod smollm3;
mod solar_open;
mod stablelm;
mod starcoder2;
#[cfg(test)]
mod tests;
mod youtu;

use crate::Family;
pub(crate) use mistral::effective_model_type;

/// Every built-in family of a class in transformers, by model type; the others are in [`remote`].
pub static BUILTIN: &[&Family] = &[
    &afmoe::FAMILY,
    &alibi::bloom::FAMILY,
    &alibi::falcon::FAMILY,
    &alibi::mpt::FAMILY,
    &apertus::FAMILY,
    &arcee::FAMILY,
    &aria_text::FAMILY,
    &axk1::FAMILY,
    &bitnet::FAMILY,
    &cohere::cohere2::FAMILY,
    &cohere::cohere2_moe::FAMILY,
    &cohere::cohere::FAMILY,
    &cwm::FAMILY,
    &dbrx::FAMILY,
    &deepseek::deepseek_v2::FAMILY,
    &deepseek::deepseek_v32::FAMILY,
    &deepseek::deepseek_v3::FAMILY,
    &dots1::FAMILY,
    &ernie4_5::FAMILY,
    &ernie4_5_moe::FAMILY,
    &exaone::exaone4::FAMILY,
    &exaone::exaone_moe::FAMILY,
    &fairseq::biogpt::FAMILY,
    &fairseq::opt::FAMILY,
    &fairseq::xglm::FAMILY,
    &flint::FAMILY,
    &gemma::gemma2::FAMILY,
    &gemma::gemma3_text::FAMILY,
    &gemma::gemma4_text::FAMILY,
    &gemma::gemma4_unified_text::FAMILY,
    &gemma::gemma::FAMILY,
    &gemma::vaultgemma::FAMILY,
    &glm4_moe::FAMILY,
    &glm::glm4::FAMILY,
    &glm::glm4_moe_lite::FAMILY,
    &glm::glm4v_moe_text::FAMILY,
    &glm::glm4v_text::FAMILY,
    &glm::glm::FAMILY,
    &glm::glm_moe_dsa::FAMILY,
    &gpt::codegen::FAMILY,
    &gpt::gpt2::FAMILY,
    &gpt::gpt_bigcode::FAMILY,
    &gpt::gpt_neo::FAMILY,
    &gpt::gpt_neox::FAMILY,
    &gpt::gpt_neox_japanese::FAMILY,
    &gpt::gpt_sw3::FAMILY,
    &gpt::gptj::FAMILY,
    &gpt::openai_gpt::FAMILY,
    &gpt_oss::FAMILY,
    &granite::granite::FAMILY,
    &granite::granite_swa::FAMILY,
    &granite::granitemoe::FAMILY,
    &granite::granitemoe_swa::FAMILY,
    &granite::granitemoeshared::FAMILY,
    &helium::FAMILY,
    &hunyuan::hunyuan_v1_dense::FAMILY,
    &hunyuan::hunyuan_v1_moe::FAMILY,
    &hy_v3::FAMILY,
    &hyperclovax::FAMILY,
    &internlm3::FAMILY,
    &iquestcoder::FAMILY,
    &jais2::FAMILY,
    &kolibri1::FAMILY,
    &laguna::FAMILY,
    &lfm2::FAMILY,
    &llama4::FAMILY,
    &llama::FAMILY,
    &longcat_flash::FAMILY,
    &mellum::FAMILY,
    &mimo_v2_flash::FAMILY,
    &minicpm3::FAMILY,
    &minimax_m2::FAMILY,
    &mistral::ministral3::FAMILY,
    &mistral::ministral::FAMILY,
    &mistral::mistral4::FAMILY,
    &mistral::mistral::FAMILY,
    &mistral::mixtral::FAMILY,
    &modernbert_decoder::FAMILY,
    &nanochat::FAMILY,
    &nemotron::FAMILY,
    &olmo::flex_olmo::FAMILY,
    &olmo::olmo2::FAMILY,
    &olmo::olmo3::FAMILY,
    &olmo::olmo::FAMILY,
    &olmo::olmoe::FAMILY,
    &persimmon::FAMILY,
    &phi::phi3::FAMILY,
    &phi::phi::FAMILY,
    &phi::phimoe::FAMILY,
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
    &solar_open::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
    &youtu::FAMILY,
];

/// What family files are written with.
mod prelude {
    pub(super) use super::common::*;
    pub(super) use crate::rope::{FIXED_NTK_ALPHA, LayerTypeThetas, RopeByLayerType};
    pub(super) use crate::spec::*;
    pub(super) use crate::template::{Keys, LayerParts, MOST_LAYERS, Template, layer_types, mask_of};
    pub(super) use crate::weights::{
        Layout, PACKED_EXPERTS, PACKED_GATE_UP, PackOrder, Rule, STACKED_EXPERTS, packed_qkv,
    };
    pub(super) use crate::{Family, FamilyConfig, RegistryError};
    pub(super) use automodel_config::DefaultValue::*;
    pub(super) use automodel_config::{ClassDefaults, RopeDefaults, RopeLayer, RopeOptions};
}
