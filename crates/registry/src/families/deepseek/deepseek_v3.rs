//! DeepSeek-V3 and R1: latent attention, experts scored by sigmoids and chosen out of some groups.

use super::super::prelude::*;
use super::{LATENT_KEYS, build_latent, latent_attention, pairing};

pub static FAMILY: Family = Family {
    model_type: "deepseek_v3",
    architectures: &["DeepseekV3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code that came with the checkpoint; the class has no such keys and computes what the published values say.
    ignored_keys: &["ep_size", "moe_layer_freq", "scoring_func", "topk_method"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(129_280)),
        ("hidden_size", Int(7168)),
        ("intermediate_size", Int(18_432)),
        ("moe_intermediate_size", Int(2048)),
        ("num_hidden_layers", Int(61)),
        ("num_attention_heads", Int(128)),
        ("num_key_value_heads", Int(128)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(256)),
        ("routed_scaling_factor", Float(2.5)),
        ("kv_lora_rank", Int(512)),
        ("q_lora_rank", Int(1536)),
        ("qk_rope_head_dim", Int(64)),
        ("v_head_dim", Int(128)),
        ("qk_nope_head_dim", Int(128)),
        ("n_group", Int(8)),
        ("topk_group", Int(4)),
        ("num_experts_per_tok", Int(8)),
        ("first_k_dense_replace", Int(3)),
        ("norm_topk_prob", Bool(true)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("rope_interleave", Bool(true)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

const LAYOUT: Layout =
    Layout { ignored: &[("model.layers.61.*", "a layer that predicts one token more")], ..DEEPSEEK_MOE_LAYOUT };

pub fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &LATENT_KEYS)?;
    let attention = latent_attention(config, pairing(config)?, config.usize("v_head_dim")?)?;
    let dense = config.count("first_k_dense_replace")?;
    build_latent(template, &attention, &deepseek_moe(config)?, |index| index < dense)
}
