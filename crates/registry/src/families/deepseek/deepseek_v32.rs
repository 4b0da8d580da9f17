//! DeepSeek-V3.2: DeepSeek-V3 with keys that an indexer chooses.

use super::super::prelude::*;
use super::{LATENT_KEYS, build_latent, indexed_attention};

pub static FAMILY: Family = Family {
    model_type: "deepseek_v32",
    architectures: &["DeepseekV32ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code that came with the checkpoint, but for `mlp_bias`, which the class has and its MLP does not read.
    ignored_keys: &["ep_size", "mlp_bias", "moe_layer_freq", "scoring_func", "topk_method"],
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
        ("norm_topk_prob", Bool(true)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(163_840)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("mlp_layer_types", Null),
        ("attention_bias", Bool(false)),
        ("index_topk", Int(2048)),
        ("index_head_dim", Int(128)),
        ("index_n_heads", Int(64)),
        ("first_k_dense_replace", Int(3)),
        ("layer_types", Null),
    ],
    aliases: &[("num_local_experts", "n_routed_experts"), ("num_experts", "n_routed_experts")],
};

const LAYOUT: Layout = Layout {
    ignored: &[("model.layers.61.*", "a layer that predicts one token more")],
    keep_float32: &["mlp.gate.e_score_correction_bias", "indexer.weights_proj.weight"],
    ..DEEPSEEK_MOE_LAYOUT
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &LATENT_KEYS)?;
    let attention = indexed_attention(config, template.num_hidden_layers, RopePairing::HalfSplit)?;
    let dense = config.count("first_k_dense_replace")?;
    let is_sparse = sparse_layers(config, template.num_hidden_layers, |index| index >= dense)?;
    build_latent(template, &attention, &deepseek_moe(config)?, |index| !is_sparse[index])
}
