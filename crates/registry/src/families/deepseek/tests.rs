use super::super::tests::lower;
use crate::spec::*;
use serde_json::{Value, json};

/// A tiny config of latent attention with changes.
fn latent(model_type: &str, changes: Value) -> Result<ModelSpec, String> {
    let mut config = json!({
        "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": null, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
        "v_head_dim": 10, "rope_theta": 10000.0,
    });
    if model_type == "mistral4" {
        config.as_object_mut().unwrap().remove("rope_theta");
    }
    if !matches!(model_type, "youtu" | "minicpm3" | "longcat_flash") {
        let experts = json!({
            "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "n_shared_experts": 1, "n_group": 1,
            "topk_group": 1,
        });
        merge(&mut config, &experts);
    }
    merge(&mut config, &changes);
    lower(model_type, config).map_err(|error| {
        std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect()
    })
}

fn merge(config: &mut Value, changes: &Value) {
    let (Some(config), Some(changes)) = (config.as_object_mut(), changes.as_object()) else { panic!("objects") };
    config.extend(changes.clone());
}

fn attention(spec: &ModelSpec) -> &MlaSpec {
    match spec.backbone.layers[0].mixers().next() {
        Some(Mixer::Mla(mla)) => mla,
        other => panic!("{other:?}"),
    }
}

fn yarn(changes: Value) -> Value {
    let mut scaling = json!({"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 32});
    merge(&mut scaling, &changes);
    json!({"rope_scaling": scaling})
}

#[test]
fn mscale_of_all_dimensions_scales_the_scores_twice() {
    let scale = |changes| attention(&latent("deepseek_v3", changes).unwrap()).scale;
    let plain = 10f64.powf(-0.5);
    let scaled = |mscale: f64| plain * (0.1 * mscale * 40f64.ln() + 1.0).powi(2);
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    close(scale(json!({})), plain);
    close(scale(yarn(json!({}))), plain);
    close(scale(yarn(json!({"mscale": 1.0, "mscale_all_dim": 0}))), plain);
    close(scale(yarn(json!({"mscale": 1.0, "mscale_all_dim": 0.707}))), scaled(0.707));
    // Whatever the type of the frequencies.
    let linear = json!({"rope_scaling": {"type": "linear", "factor": 40.0, "mscale_all_dim": 1.0}});
    close(scale(linear), scaled(1.0));
    close(scale(json!({"rope_scaling": {"type": "default", "mscale_all_dim": 1.0}})), plain);
}

#[test]
fn kimi_k2_is_deepseek_v3_by_its_config() {
    let of = |family: &str, changes: Value| {
        let mut config = yarn(json!({"mscale": 1.0, "mscale_all_dim": 1.0}));
        merge(&mut config, &json!({"routed_scaling_factor": 2.0, "first_k_dense_replace": 1}));
        merge(&mut config, &changes);
        latent(family, config)
    };
    assert_eq!(of("kimi_k2", json!({})), of("deepseek_v3", json!({})));
    for (key, value) in
        [("scoring_func", json!("softmax")), ("topk_method", json!("greedy")), ("moe_layer_freq", json!(2))]
    {
        assert!(of("kimi_k2", json!({(key): value})).unwrap_err().contains(key));
    }
}

#[test]
fn latents_have_keys_of_all_heads() {
    for family in ["deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu", "minicpm3"] {
        let error = latent(family, json!({"num_key_value_heads": 2})).unwrap_err();
        assert!(error.contains("num_key_value_heads is 2"), "{family}: {error}");
        // GLM's class has one value under both names.
        assert!(family == "glm4_moe_lite" || latent(family, json!({"head_dim": 8})).is_err(), "{family}");
        assert!(latent(family, json!({"qk_rope_head_dim": 3})).is_err(), "{family}");
    }
    let written = json!({"head_dim": 4, "qk_head_dim": 10, "num_key_value_heads": null});
    assert!(latent("deepseek_v3", written).is_ok());
    assert!(latent("deepseek_v3", json!({"qk_head_dim": 12})).is_err());
}

#[test]
fn caches_hold_latents_and_one_key() {
    let spec = latent("youtu", json!({})).unwrap();
    let mixer = spec.backbone.layers[0].mixers().next().unwrap();
    assert_eq!(mixer.cache(spec.backbone.hidden_size), CacheSpec { per_position: 16 + 4, window: None, fixed: 0 });
}

#[test]
fn deepseek_v2_chooses_groups_by_their_best_expert() {
    let groups = |changes: Value| {
        let spec = latent("deepseek_v2", changes)?;
        let moe = spec.backbone.layers[0].feed_forwards().next().and_then(FeedForward::moe).unwrap();
        Ok(moe.router.groups)
    };
    let of = |changes| groups(changes).map_err(|error: String| error);
    assert_eq!(of(json!({"n_group": 4, "topk_group": 2})), Ok(None));
    let limited = json!({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2});
    assert_eq!(of(limited), Ok(Some(ExpertGroups { count: 4, chosen: 2, score: GroupScore::Best })));
    let missing = json!({"topk_method": "group_limited_greedy", "n_group": null});
    assert!(of(missing).unwrap_err().contains("n_group"));
    assert!(of(json!({"topk_method": "noaux_tc"})).unwrap_err().contains("topk_method"));
}

#[test]
fn glm4_moe_lite_says_which_layers_are_sparse() {
    let sparse = |changes: Value| {
        let spec = latent("glm4_moe_lite", changes)?;
        let is_sparse = |layer: &LayerSpec| layer.feed_forwards().any(|feed| feed.moe().is_some());
        Ok::<Vec<bool>, String>(spec.backbone.layers.iter().map(is_sparse).collect())
    };
    assert_eq!(sparse(json!({})), Ok(vec![false, true, true]));
    let given = json!({"mlp_layer_types": ["sparse", "dense", "dense"]});
    assert_eq!(sparse(given), Ok(vec![true, false, false]));
    assert!(sparse(json!({"mlp_layer_types": ["sparse"]})).unwrap_err().contains("1 entries for 3 layers"));
    assert!(sparse(json!({"mlp_layer_types": ["sparse", "thin", "dense"]})).unwrap_err().contains("mlp_layer_types"));
    assert!(latent("glm4_moe_lite", json!({"partial_rotary_factor": 0.5})).unwrap_err().contains("qk_rope_head_dim"));
}

#[test]
fn longcat_has_two_attentions_in_a_layer() {
    let changes = |layers: usize| {
        json!({
            "num_hidden_layers": layers, "num_layers": 3, "q_lora_rank": 8, "n_routed_experts": 8, "moe_topk": 3, "ffn_hidden_size": 16,
            "expert_ffn_hidden_size": 8, "zero_expert_num": 4, "head_dim": 4, "intermediate_size": 16,
        })
    };
    let spec = latent("longcat_flash", changes(6)).unwrap();
    assert_eq!(spec.backbone.layers.len(), 3);
    assert_eq!(spec.backbone.layers[0].mixers().count(), 2);
    let mla = attention(&spec);
    assert_eq!(mla.latent_scale, Some(2f64.sqrt()));
    assert!((mla.scale - 10f64.powf(-0.5) * 2.0).abs() < 1e-12);
    let moe = spec.backbone.layers[0].feed_forwards().find_map(FeedForward::moe).unwrap();
    assert_eq!((moe.num_experts, moe.choices()), (8, 12));
    assert!(latent("longcat_flash", changes(3)).unwrap_err().contains("num_hidden_layers"));
}

/// A tiny config with an indexer.
fn indexed(model_type: &str, changes: Value) -> Result<ModelSpec, String> {
    let mut config = json!({"q_lora_rank": 12, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 5});
    merge(&mut config, &changes);
    latent(model_type, config)
}

#[test]
fn indexers_turn_as_their_class_does() {
    for (family, pairing) in [("deepseek_v32", RopePairing::HalfSplit), ("glm_moe_dsa", RopePairing::Interleaved)] {
        let spec = indexed(family, json!({"layer_types": null})).unwrap();
        let mla = attention(&spec);
        assert_eq!(mla.rope.as_ref().unwrap().pairing, RopePairing::Interleaved);
        assert_eq!(mla.indexer.as_ref().unwrap().rope.as_ref().unwrap().pairing, pairing, "{family}");
        let mixer = spec.backbone.layers[0].mixers().next().unwrap();
        assert_eq!(mixer.cache(32).per_position, 16 + 4 + 8);
        assert!(indexed(family, json!({"q_lora_rank": null})).is_err());
        assert!(indexed(family, json!({"index_head_dim": 2})).unwrap_err().contains("indexer"), "{family}");
        let types = json!({"layer_types": ["indexed_attention", "full_attention", "indexed_attention"]});
        assert!(indexed(family, types).unwrap_err().contains("layer_types"), "{family}");
        let older = json!({"layer_types": vec!["deepseek_sparse_attention"; 3]});
        assert!(indexed(family, older).is_ok(), "{family}");
    }
}

#[test]
fn indexers_of_other_layers_are_refused() {
    let of = |changes| indexed("glm_moe_dsa", changes).map(|_| ());
    for own in [
        json!({"indexer_types": ["full", "full", "full"], "index_topk_freq": 4}),
        json!({"index_topk_freq": 1, "index_skip_topk_offset": 3}),
        json!({"index_topk_pattern": null}),
    ] {
        assert_eq!(of(own), Ok(()));
    }
    for (key, value) in [
        ("indexer_types", json!(["full", "shared", "full"])),
        ("index_topk_freq", json!(4)),
        ("index_topk_pattern", json!("FSF")),
    ] {
        let refused = of(json!({(key): value})).unwrap_err();
        assert!(refused.contains(key) && refused.contains("earlier one"), "{refused}");
    }
}

#[test]
fn axk1_has_norms_on_mixtures_alone() {
    let normed = |changes: Value| {
        let mut config = json!({"q_lora_rank": 12});
        merge(&mut config, &changes);
        let spec = latent("axk1", config).unwrap();
        spec.backbone.layers.iter().map(|layer| layer.branches[1].post.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(normed(json!({})), [false, true, true]);
    assert_eq!(normed(json!({"first_k_dense_replace": 0, "moe_layer_freq": 2})), [true, false, true]);
    let given = json!({"first_k_dense_replace": 0, "mlp_layer_types": ["dense", "sparse", "dense"]});
    assert_eq!(normed(given), [false, true, false]);
}

#[test]
fn queries_of_mistral4_grow_with_the_position() {
    let of = |rope: Value| latent("mistral4", json!({"rope_parameters": rope}));
    let yarn = |changes: Value| {
        let mut rope = json!({
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32,
            "llama_4_scaling_beta": 0.3, "mscale": 1.0, "mscale_all_dim": 1.0, "max_position_embeddings": 64,
        });
        merge(&mut rope, &changes);
        of(rope)
    };
    let grows = |spec: &ModelSpec| attention(spec).query_temperature.unwrap();
    let spec = yarn(json!({})).unwrap();
    assert_eq!(grows(&spec), QueryTemperature { first: 0, scale: 0.3, floor_scale: 32.0 });
    assert!((attention(&spec).scale - 10f64.powf(-0.5) * (0.1 * 4f64.ln() + 1.0).powi(2)).abs() < 1e-12);
    // Without rope parameters those of the class.
    let spec = of(json!(null)).unwrap();
    assert_eq!(grows(&spec), QueryTemperature { first: 0, scale: 0.1, floor_scale: 8192.0 });
    assert!((attention(&spec).scale - 10f64.powf(-0.5) * (0.1 * 128f64.ln() + 1.0).powi(2)).abs() < 1e-12);
    assert!(yarn(json!({"llama_4_scaling_beta": null})).unwrap_err().contains("llama_4_scaling_beta"));
    assert!(yarn(json!({"partial_rotary_factor": 0.8})).unwrap_err().contains("qk_rope_head_dim"));
    assert!(yarn(json!({"rope_type": "linear"})).unwrap_err().contains("yarn"));
}
