//! Keys of config files of transformers, to check overrides and to suggest similar names.

use crate::{harmless, resolve::ROPE_OBJECTS};

/// Keys that carry mathematics in some config class of transformers 5.23.
#[rustfmt::skip]
const MATHEMATICS: &[&str] = &[
    "activation", "activation_function", "attention_bias", "attention_multiplier", "attention_out_bias",
    "attention_chunk_size", "attn_logit_softcapping", "attn_temperature_tuning", "clip_qkv", "d_model",
    "decoder_sparse_step", "embedding_multiplier", "final_logit_softcapping", "first_k_dense_replace", "ffn_dim",
    "ffn_hidden_size", "head_dim", "hidden_act", "hidden_activation", "hidden_size", "intermediate_size",
    "kv_lora_rank", "layer_norm_eps", "layer_norm_epsilon", "layer_types", "lm_head_bias", "logit_scale",
    "logits_scaling", "max_position_embeddings", "max_window_layers", "mlp_bias", "mlp_layer_types",
    "mlp_only_layers", "moe_intermediate_size", "moe_layer_freq", "n_embd", "n_group", "n_head", "n_heads",
    "n_inner", "n_layer", "n_layers", "n_positions", "n_routed_experts", "n_shared_experts",
    "no_rope_layer_interval", "no_rope_layers", "norm_eps", "norm_epsilon", "norm_topk_prob", "num_attention_heads",
    "num_experts", "num_experts_per_tok", "num_heads", "num_hidden_layers", "num_key_value_heads", "num_kv_heads",
    "num_layers", "num_local_experts", "original_max_position_embeddings", "parallel_attn", "partial_rotary_factor",
    "q_lora_rank", "qk_layernorm", "qk_nope_head_dim", "qk_rope_head_dim", "qkv_bias",
    "query_pre_attn_scalar", "residual_multiplier", "rms_norm_eps", "rope_interleave", "rope_local_base_freq",
    "rope_parameters", "rope_scaling", "rope_theta", "rotary_dim", "rotary_emb_base", "rotary_pct",
    "routed_scaling_factor", "scale_attn_by_inverse_layer_idx", "scale_attn_weights", "scoring_func",
    "shared_expert_intermediate_size", "sliding_window", "sliding_window_pattern", "swiglu_limit",
    "tie_word_embeddings", "topk_group", "topk_method", "use_bias", "use_bidirectional_attention",
    "use_parallel_residual", "use_qk_norm", "use_qkv_bias", "use_sliding_window", "v_head_dim", "vocab_size",
];

/// Keys inside rope objects: those of `RopeParameters` in transformers 5.23, `type` of version 4, the ones that single
/// families add, and last those of YaRN's first implementation, which transformers warns of and ignores.
#[rustfmt::skip]
const ROPE_KEYS: &[&str] = &[
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings",
    "attention_factor", "beta_fast", "beta_slow", "short_factor", "long_factor", "low_freq_factor",
    "high_freq_factor", "mscale", "mscale_all_dim", "truncate", "mrope_section", "mrope_interleaved",
    "short_mscale", "long_mscale", "llama_4_scaling_beta", "alpha", "finetuned",
    "attn_factor", "extrapolation_factor",
];

/// `ALLOWED_ATTN_LAYER_TYPES` of transformers 5.23.
#[rustfmt::skip]
const LAYER_TYPES: &[&str] = &[
    "full_attention", "sliding_attention", "chunked_attention", "window_attention", "indexed_attention",
    "compressed_sparse_attention", "heavily_compressed_attention", "minimax_m3_sparse", "conv", "moe", "hybrid",
    "hybrid_sliding", "reference_sliding_attention", "linear_attention",
];

/// Minimum similarity of a suggested name.
const NEAR: f64 = 0.82;
/// Maximum of suggested names.
const SUGGESTIONS: usize = 3;

/// Whether transformers knows a top-level key of this name.
pub(crate) fn is_known(key: &str) -> bool {
    MATHEMATICS.contains(&key) || harmless::names().any(|name| name == key)
}

/// Whether a rope object may have this key.
pub(crate) fn is_rope_key(key: &str) -> bool {
    ROPE_KEYS.contains(&key)
}

/// Whether this is the name of a layer type.
pub(crate) fn is_layer_type(key: &str) -> bool {
    LAYER_TYPES.contains(&key)
}

/// Known names and those of `more` that are similar to the last part of a dotted key; best first.
pub(crate) fn nearest<'a>(key: &str, more: impl Iterator<Item = &'a str>) -> Vec<String> {
    // Names are short; a file may have a key of any length, and the comparison is quadratic.
    const LONGEST: usize = 64;
    let (parent, last) = key.rsplit_once('.').map_or((None, key), |(parent, last)| (Some(parent), last));
    if last.len() > LONGEST {
        return Vec::new();
    }
    let everywhere: Vec<&'a str> = match parent {
        Some(parent) if ROPE_OBJECTS.iter().any(|object| parent.starts_with(object)) => ROPE_KEYS.to_vec(),
        Some(_) => Vec::new(),
        None => MATHEMATICS
            .iter()
            .copied()
            .chain(harmless::names().map(|name| -> &'a str { name }))
            .chain(more.filter(|name| name.len() <= LONGEST))
            .collect(),
    };
    let mut scored: Vec<(f64, &str)> = everywhere
        .into_iter()
        .filter(|name| *name != last)
        .map(|name| (strsim::jaro_winkler(last, name), name))
        .filter(|(score, _)| *score >= NEAR)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(SUGGESTIONS).map(|(_, name)| name.to_owned()).collect()
}
