//! The ranges of the numbers of a config, key by key. The readers of [`ResolvedConfig`](crate::ResolvedConfig) and of rope
//! parameters check them, so that a number outside never reaches arithmetic.
//!
//! Bounds are far beyond published models (the largest have about 130 layers, 900 experts, 300,000 tokens), and tight enough that
//! no product of two sizes overflows and no factor becomes zero or infinite in float32 where it must not.

/// Sizes above this mean a damaged or hostile file, for any key.
pub(crate) const SIZE_LIMIT: usize = 1 << 31;

/// Numbers above this overflow in float32 arithmetic, for any key.
const NUMBER_LIMIT: f64 = 1e30;

/// Largest values of sizes and counts.
#[rustfmt::skip]
const SIZES: &[(usize, &[&str])] = &[
    (1 << 10, &["num_hidden_layers", "num_layers"]),
    (1 << 13, &["num_experts", "num_local_experts", "n_routed_experts", "zero_expert_num", "num_experts_per_tok", "moe_topk"]),
    (1 << 16, &[
        "num_attention_heads", "num_key_value_heads", "head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
        "index_head_dim", "index_n_heads",
    ]),
    (1 << 20, &["hidden_size", "kv_lora_rank", "q_lora_rank"]),
    (1 << 24, &["intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "n_inner", "ffn_hidden_size", "expert_ffn_hidden_size"]),
    (1 << 27, &["vocab_size"]),
    (SIZE_LIMIT - 1, &[
        "max_position_embeddings", "original_max_position_embeddings", "sliding_window", "sliding_window_pattern",
        "max_window_layers", "decoder_sparse_step", "no_rope_layer_interval",
    ]),
];

/// Smallest and largest values of numbers.
#[rustfmt::skip]
const NUMBERS: &[(f64, f64, &[&str])] = &[
    // Added to a variance.
    (0.0, 1.0, &["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"]),
    // Parts of a whole.
    (0.0, 1.0, &["partial_rotary_factor", "rotary_pct"]),
    // Factors: any sign, and zero, can be computed with.
    (-1e6, 1e6, &[
        "attention_multiplier", "embedding_multiplier", "residual_multiplier", "logit_scale", "attention_factor", "mscale",
        "mscale_all_dim", "beta_fast", "beta_slow", "routed_scaling_factor", "scale_emb", "scale_depth",
    ]),
    // Divisors, bounds, and what is raised to a power.
    (1e-6, 1e9, &[
        "logits_scaling", "attn_logit_softcapping", "final_logit_softcapping", "clip_qkv", "query_pre_attn_scalar",
        "factor", "low_freq_factor", "high_freq_factor", "short_factor", "long_factor",
    ]),
    // Bases of the frequencies.
    (1e-6, 1e15, &["rope_theta", "rotary_emb_base", "rope_local_base_freq"]),
];

/// A range of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range<T> {
    pub(crate) least: T,
    pub(crate) most: T,
}

impl<T: PartialOrd + Copy> Range<T> {
    /// NaN is in no range.
    pub(crate) fn contains(&self, value: T) -> bool {
        self.least <= value && value <= self.most
    }
}

/// The range of a count under a dotted key.
pub(crate) fn of_count(key: &str) -> Range<usize> {
    let most = SIZES.iter().find(|(_, keys)| keys.contains(&last(key))).map_or(SIZE_LIMIT - 1, |(most, _)| *most);
    Range { least: 0, most }
}

/// The range of a size, which is not zero.
pub(crate) fn of_size(key: &str) -> Range<usize> {
    Range { least: 1, ..of_count(key) }
}

/// The range of a number.
pub(crate) fn of_number(key: &str) -> Range<f64> {
    let declared = NUMBERS.iter().find(|(_, _, keys)| keys.contains(&last(key)));
    declared.map_or(Range { least: -NUMBER_LIMIT, most: NUMBER_LIMIT }, |&(least, most, _)| Range { least, most })
}

/// Whether the table has a key: every number that a family reads should be there.
#[cfg(test)]
fn is_declared(key: &str) -> bool {
    SIZES.iter().any(|(_, keys)| keys.contains(&key)) || NUMBERS.iter().any(|(_, _, keys)| keys.contains(&key))
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harmless_reason;
    use serde_json::Value;

    /// Numbers of class defaults under names that families read by another (`n_embd` is `hidden_size`).
    const ALIASES: &[&str] = &["n_embd", "n_head", "n_layer", "n_positions", "_sliding_window_pattern"];

    #[test]
    fn every_number_of_the_families_configs_has_a_range() {
        let families: Value =
            serde_json::from_str(include_str!("../tests/fixtures/class_defaults.json")).expect("JSON");
        for (family, config) in families.as_object().expect("an object") {
            for (key, value) in config.as_object().expect("an object") {
                let is_read = harmless_reason(key, value).is_none() && !ALIASES.contains(&key.as_str());
                assert!(!value.is_number() || !is_read || is_declared(key), "{family} has no range for {key}");
            }
        }
    }

    #[test]
    fn a_key_is_declared_once() {
        let sizes = SIZES.iter().flat_map(|(_, keys)| keys.iter());
        let mut all: Vec<&str> = sizes.chain(NUMBERS.iter().flat_map(|(_, _, keys)| keys.iter())).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn products_of_sizes_fit() {
        let most = |key: &str| of_size(key).most as u64;
        let heads = most("num_attention_heads") * most("head_dim");
        assert!(heads.checked_mul(most("hidden_size")).and_then(|weight| weight.checked_mul(8)).is_some());
        assert!(most("vocab_size").checked_mul(most("hidden_size") * 8).is_some());
        assert!(most("num_hidden_layers").checked_mul(most("num_experts") * most("intermediate_size")).is_some());
    }
}
