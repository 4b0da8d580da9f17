//! The list of harmless keys against the configs that transformers 5.23 writes (`fixtures/make.py`).

use std::collections::BTreeSet;

use automodel_config::{ClassDefaults, Overrides, RawConfig, harmless_reason};
use serde_json::{Value, json};

/// Every key that is not harmless in the default configs of the first 29 families (`fixtures/class_defaults.json`), reviewed by hand: each of these can change
/// what a model computes.
#[rustfmt::skip]
const MATHEMATICS: &[&str] = &[
    "_sliding_window_pattern", "activation_function", "attention_bias", "attention_multiplier", "attention_out_bias",
    "attn_logit_softcapping", "decoder_sparse_step", "embedding_multiplier", "final_logit_softcapping", "head_dim",
    "hidden_act", "hidden_activation", "hidden_size", "intermediate_size", "layer_norm_eps", "layer_norm_epsilon",
    "layer_types", "logit_scale", "logits_scaling", "max_position_embeddings", "max_window_layers", "mlp_bias",
    "mlp_only_layers", "moe_intermediate_size", "n_embd", "n_head", "n_layer", "n_positions",
    "no_rope_layer_interval", "no_rope_layers", "norm_epsilon", "norm_topk_prob", "num_attention_heads", "num_experts",
    "num_experts_per_tok", "num_hidden_layers", "num_key_value_heads", "num_local_experts",
    "original_max_position_embeddings", "qk_layernorm", "qkv_bias", "query_pre_attn_scalar", "residual_multiplier",
    "rms_norm_eps", "rope_parameters", "scale_attn_by_inverse_layer_idx", "scale_attn_weights",
    "shared_expert_intermediate_size", "sliding_window", "sliding_window_pattern", "tie_word_embeddings", "use_bias",
    "use_parallel_residual", "use_qk_norm", "use_qkv_bias", "use_sliding_window",
    "vocab_size",
];

#[test]
fn what_is_left_of_the_default_configs_is_mathematics() {
    let families: Value = serde_json::from_str(include_str!("fixtures/class_defaults.json")).expect("JSON");
    let families = families.as_object().expect("an object");
    assert_eq!(families.len(), 29);
    let mut left = BTreeSet::new();
    for config in families.values() {
        let raw = RawConfig::from_value(config.clone()).expect("an object");
        let config = raw.resolve(&ClassDefaults::default(), &Overrides::new()).expect("resolves");
        left.extend(config.unread_keys());
    }
    let expected: BTreeSet<String> = MATHEMATICS.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(left, expected);
}

#[test]
fn a_key_can_be_harmless_at_one_value_only() {
    for (key, harmless, harmful) in [
        ("add_cross_attention", json!(false), json!(true)),
        ("is_encoder_decoder", json!(false), json!(true)),
        ("is_causal", json!(true), json!(false)),
        ("use_bidirectional_attention", json!(false), json!(true)),
        ("normalize_attention_scores", json!(true), json!(false)),
        ("moe_frequency", json!(1), json!(2)),
        ("shared_experts_intermediate_size", json!(0), json!(64)),
    ] {
        assert!(harmless_reason(key, &harmless).is_some(), "{key}");
        assert!(harmless_reason(key, &harmful).is_none(), "{key}");
    }
    assert!(harmless_reason("pretraining_tp", &json!(4)).is_some());
}

#[test]
fn values_of_another_kind_of_model_are_refused_with_the_reason() {
    for (key, value) in [
        ("is_causal", json!(false)),
        ("use_bidirectional_attention", json!(true)),
        ("is_encoder_decoder", json!(true)),
        ("add_cross_attention", json!(true)),
    ] {
        let raw = RawConfig::from_value(json!({"model_type": "llama", key: value})).expect("an object");
        let config = raw.resolve(&ClassDefaults::default(), &Overrides::new()).expect("resolves");
        let said = config.check_all_read(&[]).expect_err(key).to_string();
        assert!(said.contains(&format!("`{key}` is {value}")) && !said.contains("allowed keys"), "{said}");
        // An allowed key is accepted all the same.
        assert!(config.check_all_read(&[key.to_owned()]).is_ok(), "{key}");
    }
}
