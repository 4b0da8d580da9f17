//! GLM-5: DeepSeek-V3.2's attention and mixture of experts.

use super::super::deepseek::{LATENT_KEYS, build_latent, indexed_attention};
use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm_moe_dsa",
    architectures: &["GlmMoeDsaForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The class pairs side by side, whatever these say; its MLP does not read `mlp_bias`;
    // the offset counts where indexers are shared. The others are of the code that came with the checkpoint.
    ignored_keys: &[
        "ep_size",
        "index_skip_topk_offset",
        "indexer_rope_interleave",
        "mlp_bias",
        "moe_layer_freq",
        "rope_interleave",
        "scoring_func",
        "topk_method",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(154_880)),
        ("hidden_size", Int(6144)),
        ("intermediate_size", Int(12_288)),
        ("moe_intermediate_size", Int(2048)),
        ("num_hidden_layers", Int(78)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Int(64)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(256)),
        ("routed_scaling_factor", Float(2.5)),
        ("kv_lora_rank", Int(512)),
        ("q_lora_rank", Int(2048)),
        ("qk_rope_head_dim", Int(64)),
        ("v_head_dim", Int(256)),
        ("qk_nope_head_dim", Int(192)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("num_experts_per_tok", Int(8)),
        ("norm_topk_prob", Bool(true)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(202_752)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("mlp_layer_types", Null),
        ("attention_bias", Bool(false)),
        ("index_topk", Int(2048)),
        ("index_head_dim", Int(128)),
        ("index_n_heads", Int(32)),
        ("first_k_dense_replace", Int(3)),
        ("layer_types", Null),
        ("indexer_types", Null),
    ],
    aliases: &[("num_local_experts", "n_routed_experts"), ("num_experts", "n_routed_experts")],
};

const LAYOUT: Layout = Layout {
    ignored: &[("model.layers.78.*", "a layer that predicts one token more")],
    keep_float32: &["mlp.gate.e_score_correction_bias", "indexer.weights_proj.weight"],
    ..DEEPSEEK_MOE_LAYOUT
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &LATENT_KEYS)?;
    check_own_indexers(config)?;
    let attention = indexed_attention(config, template.num_hidden_layers, RopePairing::Interleaved)?;
    let dense = config.count("first_k_dense_replace")?;
    let is_sparse = sparse_layers(config, template.num_hidden_layers, |index| index >= dense)?;
    build_latent(template, &attention, &deepseek_moe(config)?, |index| !is_sparse[index])
}

/// Every layer has an indexer of its own, as far as `indexer_types` and what it is derived from say.
fn check_own_indexers(config: &FamilyConfig<'_>) -> Result<(), RegistryError> {
    let reason = "layers that take the keys of an earlier one are not implemented";
    let types = config.list_str_or_null("indexer_types")?;
    let frequency = config.count_or_null("index_topk_freq")?;
    let pattern = config.value("index_topk_pattern").is_some_and(|pattern| !pattern.is_null());
    match types {
        Some(types) if types.iter().all(|name| name == "full") => Ok(()),
        Some(_) => Err(config.unsupported("indexer_types", reason)),
        None if pattern => Err(config.unsupported("index_topk_pattern", reason)),
        None if frequency.is_some_and(|every| every > 1) => Err(config.unsupported("index_topk_freq", reason)),
        None => Ok(()),
    }
}
