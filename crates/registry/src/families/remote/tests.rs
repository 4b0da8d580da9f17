//! What is said of families without a class in transformers, and what they refuse.

use super::super::tests::{attention, lower};
use crate::Registry;
use serde_json::{Value, json};

#[test]
fn published_layouts_are_remarked_and_refuse_what_is_not_known() {
    let base = |model_type: &str, changes: Value| {
        let mut all = match model_type {
            "qwen" => {
                json!({"kv_channels": 8, "use_dynamic_ntk": false, "use_logn_attn": false, "num_key_value_heads": null})
            }
            "chatglm" => {
                json!({"kv_channels": 8, "multi_query_attention": true, "multi_query_group_num": 2, "num_key_value_heads": null})
            }
            "baichuan" => json!({"num_key_value_heads": null}),
            "bailing_moe" | "deepseek" => {
                json!({"num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8})
            }
            "kimi_k2" => {
                json!({"num_key_value_heads": null, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1,
                    "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 8, "q_lora_rank": 8, "kv_lora_rank": 8,
                    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8})
            }
            _ => json!({}),
        };
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        // Each has one of the two names of the number of experts.
        let other = if ["deepseek", "kimi_k2"].contains(&model_type) { "num_experts" } else { "n_routed_experts" };
        all.as_object_mut().unwrap().remove(other);
        lower(model_type, all).map_err(|error| error.to_string())
    };
    let registry = Registry::builtin();
    for family in super::FAMILIES {
        assert!(registry.remark(family.model_type).is_some_and(|remark| remark.contains("neither read nor run")));
        base(family.model_type, json!({})).unwrap_or_else(|error| panic!("{}: {error}", family.model_type));
    }
    assert!(registry.remark("llama").is_none());
    let yarn = json!({"type": "yarn", "factor": 2.0});
    for (model_type, key, value) in [
        ("qwen", "use_logn_attn", json!(true)),
        ("qwen", "use_dynamic_ntk", json!(true)),
        ("qwen", "rotary_pct", json!(0.5)),
        ("chatglm", "multi_query_attention", json!(false)),
        ("chatglm", "post_layer_norm", json!(false)),
        ("chatglm", "quantization_bit", json!(4)),
        ("chatglm", "pre_seq_len", json!(8)),
        ("baichuan", "vocab_size", json!(125_696)),
        ("deepseek", "scoring_func", json!("sigmoid")),
        ("minicpm", "mup_denominator", json!(32)),
        ("minicpm", "rope_scaling", yarn.clone()),
        ("internlm2", "rope_scaling", yarn.clone()),
        ("orion", "rope_scaling", yarn.clone()),
        ("exaone", "rope_scaling", yarn),
        ("bailing_moe", "norm_head", json!(true)),
        ("bailing_moe", "use_sliding_window", json!(true)),
    ] {
        let said = base(model_type, json!({key: value})).expect_err(&format!("{model_type} with {key}"));
        assert!(said.contains(key), "{model_type} with {key}: {said}");
    }
    let larger = base("baichuan", json!({"max_position_embeddings": null, "model_max_length": 96})).unwrap();
    assert!(attention(&larger, 0).rope.is_none() && attention(&larger, 0).alibi.is_some());
    assert_eq!(larger.backbone.max_position_embeddings, Some(96));
    assert!(base("baichuan", json!({"max_position_embeddings": null})).is_err());
    let head = |changes: Value| base("baichuan", changes).unwrap().head().unwrap().unit_rows;
    assert!(head(json!({"z_loss_weight": 0})) && !head(json!({})));
}
