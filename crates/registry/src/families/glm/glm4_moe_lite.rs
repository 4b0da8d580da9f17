//! GLM-4.7-Flash: DeepSeek-V3's attention and mixture of experts.

use super::super::deepseek::{LATENT_KEYS, LATENT_ROPE, build_latent, latent_attention_with, pairing};
use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm4_moe_lite",
    architectures: &["Glm4MoeLiteForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of other classes; this one has `mlp_layer_types`, which says by default what is published, and its own routing.
    ignored_keys: &["first_k_dense_replace", "moe_layer_freq", "scoring_func", "topk_method"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(154_880)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(10_240)),
        ("moe_intermediate_size", Int(1536)),
        ("num_hidden_layers", Int(47)),
        ("num_attention_heads", Int(20)),
        ("num_key_value_heads", Int(20)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(64)),
        ("routed_scaling_factor", Float(1.8)),
        ("kv_lora_rank", Int(512)),
        ("q_lora_rank", Int(768)),
        ("qk_rope_head_dim", Int(64)),
        ("v_head_dim", Int(256)),
        ("qk_nope_head_dim", Int(192)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("num_experts_per_tok", Int(4)),
        ("norm_topk_prob", Bool(true)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(202_752)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("rope_interleave", Bool(true)),
        ("mlp_layer_types", Null),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts"), ("head_dim", "qk_rope_head_dim")],
};

const LAYOUT: Layout =
    Layout { ignored: &[("model.layers.47.*", "a layer that predicts one token more")], ..DEEPSEEK_MOE_LAYOUT };

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &LATENT_KEYS)?;
    let width = template.attention.head_dim;
    let rope = RopeByLayerType::read_with(config, &LATENT_ROPE, width, pairing(config)?)?.uniform()?.clone();
    let attention = latent_attention_with(config, rope, config.usize("v_head_dim")?)?;
    let is_sparse = sparse_layers(config, template.num_hidden_layers, |index| index > 0)?;
    build_latent(template, &attention, &deepseek_moe(config)?, |index| !is_sparse[index])
}
