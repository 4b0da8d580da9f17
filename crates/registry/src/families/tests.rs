//! Quirks of transformers that its own configs show only when a value is unusual.

use crate::spec::*;
use crate::{Registry, RegistryError, ResolveOptions};
use automodel_config::{Overrides, RawConfig};
use serde_json::{Value, json};

/// The specification of a small model with `changes` to its config.
pub(super) fn lower(model_type: &str, changes: Value) -> Result<ModelSpec, RegistryError> {
    let mut config = json!({
        "model_type": model_type, "vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    });
    let (Some(config), Some(changes)) = (config.as_object_mut(), changes.as_object()) else { panic!("objects") };
    config.extend(changes.clone());
    let registry = Registry::builtin();
    let raw = RawConfig::from_str(&serde_json::to_string(config).unwrap()).unwrap();
    let defaults = registry.class_defaults(&raw).unwrap();
    let config = raw.resolve(defaults, &Overrides::new()).unwrap();
    let resolution = registry.resolve(&config, &ResolveOptions::default()).unwrap();
    let spec = registry.lower(&config, &resolution)?.spec.expect("a generic implementation");
    config.check_all_read(&[]).unwrap();
    Ok(spec)
}

pub(super) fn attention(spec: &ModelSpec, layer: usize) -> &AttentionSpec {
    let (_, attention) = spec.backbone.attentions().find(|&(index, _)| index == layer).expect("a layer with attention");
    attention
}

fn rope(spec: &ModelSpec, layer: usize) -> &RopeSpec {
    attention(spec, layer).rope.as_ref().expect("a layer that rotates")
}

fn activation(spec: &ModelSpec) -> Activation {
    match spec.backbone.layers[0].feed_forwards().next() {
        Some(FeedForward::Gated(mlp) | FeedForward::Plain(mlp)) => mlp.activation,
        other => panic!("a dense layer, not {other:?}"),
    }
}

#[test]
fn gemma3_does_not_cap_scores() {
    let changes = json!({"head_dim": 8, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0});
    let spec = lower("gemma3_text", changes.clone()).unwrap();
    assert_eq!(attention(&spec, 0).softcap, None);
    assert_eq!(spec.head().unwrap().logit_softcap, Some(3.0));
    assert_eq!(attention(&lower("gemma2", changes).unwrap(), 0).softcap, Some(5.0));
}

#[test]
fn gemma4_shares_keys_by_layer_type() {
    let types = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"];
    let changes = |changes: Value| {
        let mut all = json!({"num_hidden_layers": 4, "head_dim": 8, "global_head_dim": 16, "layer_types": types,
            "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 2});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        lower("gemma4_text", all)
    };
    // The last layer is full, whatever its type.
    let spec = changes(json!({"use_double_wide_mlp": true})).unwrap();
    let sources: Vec<KeyValues> = (0..4).map(|layer| attention(&spec, layer).key_values).collect();
    let (own, of) = (KeyValues::Projected, KeyValues::OfLayer);
    assert_eq!(sources, [own, own, of(0), of(1)]);
    assert_eq!(attention(&spec, 3).mask, AttentionMask::Full);
    assert_eq!([0, 1, 2, 3].map(|layer| attention(&spec, layer).head_dim), [8, 16, 8, 16]);
    let widths: Vec<usize> = spec.backbone.layers.iter().flat_map(LayerSpec::feed_forwards).map(width).collect();
    assert_eq!(widths, [40, 40, 80, 80]);
    assert_eq!(spec.backbone.shared_key_values().collect::<Vec<_>>(), [0, 1]);

    let fewer = json!({"attention_k_eq_v": true, "num_global_key_value_heads": 1, "num_kv_shared_layers": 0});
    let fewer = changes(fewer).unwrap();
    let own: Vec<_> = (0..4)
        .map(|layer| (attention(&fewer, layer).num_key_value_heads, attention(&fewer, layer).key_values))
        .collect();
    let one = KeyValues::OneProjection;
    assert_eq!(own, [(2, KeyValues::Projected), (1, one), (2, KeyValues::Projected), (1, one)]);

    for (wrong, said) in [
        (json!({"num_kv_shared_layers": 5}), "there are 4 layers"),
        (json!({"num_kv_shared_layers": 3}), "none of the first 1 layers is of that type"),
        (json!({"num_kv_shared_layers": 4}), "none of the first 0 layers is of that type"),
        (json!({"per_layer_config": {"9": {"head_dim": 4}}}), "numbers of layers"),
        (json!({"per_layer_config": {"1": {"head_dim": -4}}}), "supported are head_dim"),
        (json!({"per_layer_config": {"1": {"skip": ["mlp"]}}}), "supported are head_dim"),
        (json!({"per_layer_config": {"1": {"head_dim": 4}}}), "differ in per_layer_config"),
        (json!({"per_layer_config": [1]}), "by the numbers of layers"),
        (json!({"use_bidirectional_attention": "all"}), "later ones"),
        (json!({"hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 60}), "60 rows, fewer than the 61"),
    ] {
        let error = changes(wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

fn width(feed: &FeedForward) -> usize {
    match feed {
        FeedForward::Gated(mlp) | FeedForward::Plain(mlp) => mlp.intermediate_size,
        FeedForward::Moe(moe) => moe.expert.intermediate_size,
    }
}

#[test]
fn specifications_share_what_there_is() {
    let shared = |source: usize, change: fn(&mut AttentionSpec)| {
        let mut spec = lower("llama", json!({})).unwrap();
        let Operation::Mix(Mixer::Attention(attention)) = &mut spec.backbone.layers[1].branches[0].operation else {
            panic!("attention")
        };
        attention.key_values = KeyValues::OfLayer(source);
        change(attention);
        spec.validate().err().unwrap_or_default()
    };
    assert_eq!(shared(0, |_| {}), "");
    assert!(shared(1, |_| {}).contains("no earlier layer"));
    assert!(shared(7, |_| {}).contains("no earlier layer"));
    assert!(shared(0, |attention| attention.num_key_value_heads = 1).contains("heads or mask"));
    assert!(shared(0, |attention| attention.mask = AttentionMask::Sliding { window: 3 }).contains("heads or mask"));
    assert!(
        shared(0, |attention| attention.value_norm = Some(NormSpec { kind: NormKind::Rms, eps: 1e-6 }))
            .contains("values")
    );
    let mut spec = lower("llama", json!({})).unwrap();
    let taken = LayerEmbeddingSpec { width: 4, activation: Activation::Silu };
    spec.backbone.layers[2].branches.push(Branch::new("embedding", Operation::LayerEmbedding(taken)));
    assert!(spec.validate().unwrap_err().contains("layer 2: it takes up an embedding of 4, but tokens have none"));
}

#[test]
fn gemma_takes_gelu_alone_for_its_approximation() {
    let of = |name: &str| activation(&lower("gemma", json!({"hidden_act": name})).unwrap());
    assert_eq!(of("gelu"), Activation::GeluTanh);
    assert_eq!(of("gelu_python"), Activation::Gelu);
    assert_eq!(of("gelu_accurate"), Activation::GeluTanh);
}

#[test]
fn whole_heads_rotate_where_the_family_has_no_partial_rotation() {
    let half = json!({"partial_rotary_factor": 0.5});
    assert_eq!(rope(&lower("llama", half.clone()).unwrap(), 0).rotary_dim, 8);
    assert_eq!(rope(&lower("stablelm", half.clone()).unwrap(), 0).rotary_dim, 4);
    assert_eq!(rope(&lower("phi3", half).unwrap(), 0).rotary_dim, 4);
    let scaled = json!({"partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}});
    assert_eq!(rope(&lower("phi", scaled.clone()).unwrap(), 0).rotary_dim, 4);
    let error = lower("llama", scaled).unwrap_err();
    assert!(error.to_string().contains("partial_rotary_factor is 0.5"), "{error}");
}

#[test]
fn phi3_alone_computes_sequences_again_where_longrope_changes() {
    let factors = vec![1.0; 4];
    let recomputes = |family: &str| {
        let mut scaling = json!({"type": "longrope", "short_factor": factors, "long_factor": factors});
        let mut changes = json!({"max_position_embeddings": 96});
        // Phi-3 has the length in its config, the others have it with the factors.
        let holder = if family == "phi3" { &mut changes } else { &mut scaling };
        holder["original_max_position_embeddings"] = json!(24);
        changes["rope_scaling"] = scaling;
        match &rope(&lower(family, changes).unwrap(), 0).scaling {
            RopeScaling::LongRope(scaling) => scaling.cache_valid_to,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(recomputes("phi3"), Some(24));
    assert_eq!(recomputes("llama"), None);
}

#[test]
fn proportional_frequencies_stop_at_the_part() {
    let parameters = json!({"rope_type": "proportional", "rope_theta": 10000.0, "partial_rotary_factor": 0.5});
    let spec = lower("llama", json!({"rope_parameters": parameters})).unwrap();
    assert_eq!(rope(&spec, 0).rotary_dim, 4);
    assert_eq!(rope(&spec, 0).scaling, RopeScaling::Proportional { factor: 1.0, head_dim: 8 });
}

#[test]
fn rope_scaling_by_its_older_name_misses_layer_types() {
    let of = |scaling: Value| {
        let spec = lower(
            "gemma3_text",
            json!({"head_dim": 8, "rope_scaling": scaling, "layer_types": ["full_attention",
            "sliding_attention", "full_attention"]}),
        );
        rope(&spec.unwrap(), 0).scaling.clone()
    };
    assert_eq!(of(json!({"type": "linear", "factor": 2.0})), RopeScaling::Default);
    assert_eq!(of(json!({"rope_type": "linear", "factor": 2.0})), RopeScaling::Linear { factor: 2.0 });
}

#[test]
fn smollm3_masks_by_layer_type_and_cuts_long_lists() {
    let types = json!(["full_attention", "sliding_attention", "full_attention"]);
    let changes = json!({
        "layer_types": types, "sliding_window": 4, "use_sliding_window": false, "no_rope_layers": [1, 1, 0, 1, 1],
    });
    let spec = lower("smollm3", changes).unwrap();
    assert_eq!(attention(&spec, 1).mask, AttentionMask::Sliding { window: 4 });
    assert!(attention(&spec, 1).rope.is_some() && attention(&spec, 2).rope.is_none());
    let spec = lower("smollm3", json!({"sliding_window": 4, "no_rope_layer_interval": 1})).unwrap();
    assert_eq!(attention(&spec, 0).mask, AttentionMask::Full);
    assert!(lower("smollm3", json!({"no_rope_layers": [1, 0]})).is_err());
}

#[test]
fn alpha_stretches_the_base_of_hunyuan_once_and_for_all() {
    let of = |changes: Value| {
        let mut scaling = json!({"type": "dynamic", "factor": 2.0});
        scaling.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let spec = lower("hunyuan_v1_dense", json!({"rope_theta": 10000.0, "rope_scaling": scaling}));
        spec.map(|spec| (rope(&spec, 0).theta, rope(&spec, 0).scaling.clone()))
    };
    let (theta, scaling) = of(json!({"alpha": 1000.0})).unwrap();
    // Heads of 8.
    assert!((theta / (1e4 * 1000f64.powf(8.0 / 6.0)) - 1.0).abs() < 1e-12);
    assert_eq!(scaling, RopeScaling::Default);
    for none in [json!({}), json!({"alpha": null}), json!({"alpha": 0})] {
        let (theta, scaling) = of(none).unwrap();
        assert_eq!(theta, 1e4);
        assert!(matches!(scaling, RopeScaling::Dynamic { factor: 2.0, .. }));
    }
    for wrong in [json!(-1.0), json!(1e300), json!("1000"), json!(true)] {
        assert!(of(json!({"alpha": wrong})).unwrap_err().to_string().contains("alpha"), "{wrong}");
    }
}

#[test]
fn cwm_has_rope_parameters_of_its_own() {
    let llama3 = |changes| match rope(&lower("cwm", changes).unwrap(), 0) {
        RopeSpec { theta, scaling: RopeScaling::Llama3 { factor, .. }, .. } => (*theta, *factor),
        other => panic!("{other:?}"),
    };
    let scaling = json!({
        "rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    assert_eq!(llama3(json!({"head_dim": 8})), (1e6, 16.0));
    assert_eq!(llama3(json!({"head_dim": 8, "rope_scaling": null})), (1e6, 16.0));
    assert_eq!(llama3(json!({"head_dim": 8, "rope_scaling": scaling})), (1e6, 2.0));
    assert_eq!(llama3(json!({"head_dim": 8, "rope_scaling": scaling, "rope_theta": 5e5})), (5e5, 2.0));
    let empty = lower("cwm", json!({"head_dim": 8, "rope_parameters": {}})).unwrap();
    assert_eq!(rope(&empty, 0).scaling, RopeScaling::Default);
}

#[test]
fn nemotron_refuses_another_width_of_heads_in_its_older_key() {
    assert!(lower("nemotron", json!({"kv_channels": 8})).is_ok());
    let error = lower("nemotron", json!({"kv_channels": 16})).unwrap_err();
    assert!(error.to_string().contains("kv_channels"), "{error}");
}

#[test]
fn cohere2_takes_the_head_dim_of_the_file() {
    assert_eq!(attention(&lower("cohere2", json!({"head_dim": 16})).unwrap(), 0).head_dim, 16);
    assert_eq!(attention(&lower("cohere2", json!({})).unwrap(), 0).head_dim, 8);
}

#[test]
fn the_next_token_is_not_seen_before_it_is_predicted() {
    let mut spec = lower("llama", json!({})).unwrap();
    for layer in &mut spec.backbone.layers {
        let Operation::Mix(Mixer::Attention(attention)) = &mut layer.branches[0].operation else { panic!("attention") };
        attention.mask = AttentionMask::Bidirectional;
    }
    let refused = spec.validate().unwrap_err();
    assert!(refused.contains("layer 0") && refused.contains("later positions"), "{refused}");
    let encoder = ModelSpec { task: Task::Embed, ..spec };
    encoder.validate().unwrap();
    // Nothing is kept of a sequence that is never continued.
    let mixer = encoder.backbone.layers[0].mixers().next().unwrap();
    assert_eq!(mixer.cache(encoder.backbone.hidden_size), CacheSpec::default());
}

#[test]
fn no_experts_make_dense_layers() {
    for model_type in ["qwen2_moe", "qwen3_moe"] {
        let spec = lower(model_type, json!({"num_experts": 0, "head_dim": 8})).unwrap();
        let dense = |layer: &LayerSpec| layer.feed_forwards().all(|mlp| matches!(mlp, FeedForward::Gated(_)));
        assert!(spec.backbone.layers.iter().all(dense), "{model_type}");
    }
    assert!(lower("mixtral", json!({"num_local_experts": 0})).is_err());
}

/// [`lower`] for classes that have neither a number of key-value heads nor, most of them, `intermediate_size`.
fn lower_plain(model_type: &str, changes: Value) -> Result<ModelSpec, RegistryError> {
    let mut all = json!({"num_key_value_heads": null, "intermediate_size": null});
    let (Some(config), Some(changes)) = (all.as_object_mut(), changes.as_object()) else { panic!("objects") };
    config.extend(changes.clone());
    lower(model_type, all)
}

#[test]
fn gpt_neo_takes_the_list_of_layers_before_the_types() {
    let masks = |changes: Value| {
        let spec = lower_plain("gpt_neo", changes)?;
        Ok((0..3).map(|layer| attention(&spec, layer).mask == AttentionMask::Full).collect::<Vec<_>>())
    };
    let of = |changes: Value| masks(changes).map_err(|error: RegistryError| error.to_string());
    let types = json!([[["global", "local"], 1], [["local"], 1]]);
    assert_eq!(of(json!({"attention_types": types})), Ok(vec![true, false, false]));
    let layers = json!({"attention_types": types, "attention_layers": ["local", "local", "global"]});
    assert_eq!(of(layers), Ok(vec![false, false, true]));
    assert!(of(json!({"num_hidden_layers": 24})).is_ok());
    for (changes, says) in [
        (json!({}), "24 layers"),
        (json!({"attention_types": [[["global"], 2]]}), "2 layers"),
        (json!({"attention_types": [[["global", "local"], u64::MAX]]}), "4 layers"),
        (json!({"attention_types": [[[], u64::MAX]]}), "0 layers"),
        (json!({"attention_types": [[["global"], -1]]}), "list of pairs"),
        (json!({"attention_types": ["global", "local", "local"]}), "list of pairs"),
        (json!({"attention_types": [[["global", "banded"], 1], [["local"], 1]]}), "global and local"),
        (json!({"attention_layers": ["global"]}), "1 layers"),
    ] {
        let said = of(changes.clone()).unwrap_err();
        assert!(said.contains(says), "{changes}: {said}");
    }
}

#[test]
fn gpt_bigcode_has_one_key_value_head_or_all() {
    let heads = |changes: Value| attention(&lower_plain("gpt_bigcode", changes).unwrap(), 0).num_key_value_heads;
    assert_eq!(heads(json!({})), 1);
    assert_eq!(heads(json!({"multi_query": false})), 4);
    assert!(lower_plain("gpt_bigcode", json!({"add_cross_attention": true})).is_err());
}

#[test]
fn codegen_needs_whole_heads_in_each_slice() {
    let of = |heads: usize| {
        let changes = json!({"num_attention_heads": heads, "rotary_dim": 4});
        lower_plain("codegen", changes).map_err(|error| error.to_string())
    };
    assert!(of(4).is_ok());
    assert!(of(2).unwrap_err().contains("slices"));
}

#[test]
fn learned_positions_need_a_number_of_them() {
    for model_type in ["gpt2", "gpt_neo", "opt"] {
        let changes = json!({"max_position_embeddings": null, "attention_layers": ["global", "global", "global"]});
        let refused = lower_plain(model_type, changes).unwrap_err();
        assert!(
            std::error::Error::source(&refused).unwrap().to_string().contains("max_position_embeddings"),
            "{refused}"
        );
    }
}

#[test]
fn opt_may_have_an_embedding_of_another_width() {
    let positions = |spec: &ModelSpec| spec.backbone.embedding.learned_positions.clone().unwrap();
    let spec = lower_plain("opt", json!({"word_embed_proj_dim": 32})).unwrap();
    assert_eq!((positions(&spec).rows, positions(&spec).offset), (66, 2));
    assert!(spec.backbone.final_norm.is_some());
    let after = lower_plain("opt", json!({"do_layer_norm_before": false})).unwrap();
    assert!(after.backbone.final_norm.is_none());
    assert!(spec.backbone.embedding.projected_from.is_none() && spec.head().unwrap().transform.is_none());
    let narrow = lower_plain("opt", json!({"word_embed_proj_dim": 16})).unwrap();
    assert_eq!(narrow.backbone.embedding.projected_from, Some(16));
    let mut shapes = Vec::new();
    Declare::list(|to| narrow.declare(to), &mut |parameter| {
        if ["embed_tokens", "project_in", "head_transform", "lm_head"].iter().any(|name| parameter.path.contains(name))
        {
            shapes.push(parameter.shape.to_vec());
        }
    });
    assert_eq!(shapes, [[61, 16], [32, 16], [16, 32], [61, 16]]);
    assert!(lower_plain("opt", json!({"word_embed_proj_dim": u64::MAX / 2})).is_err());
}

#[test]
fn ministral3_needs_the_factor_of_its_queries_and_a_length_to_count_in() {
    let of = |rope: Value| {
        let spec = lower("ministral3", json!({"rope_parameters": rope})).map_err(|error| error.to_string())?;
        let temperature = attention(&spec, 0).query_temperature.expect("a temperature");
        Ok::<_, String>((temperature.first, temperature.scale, temperature.floor_scale))
    };
    let yarn = |changes: Value| {
        let mut yarn = json!({"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "llama_4_scaling_beta": 0.2,
            "original_max_position_embeddings": 16});
        yarn.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        yarn
    };
    assert_eq!(of(yarn(json!({}))), Ok((0, 0.2, 16.0)));
    assert_eq!(of(Value::Null), Ok((0, 0.1, 16_384.0)));
    assert!(of(yarn(json!({"llama_4_scaling_beta": null}))).unwrap_err().contains("llama_4_scaling_beta"));
    assert!(of(yarn(json!({"llama_4_scaling_beta": "0.1"}))).unwrap_err().contains("llama_4_scaling_beta"));
    let plain = json!({"rope_type": "default", "rope_theta": 1e4, "llama_4_scaling_beta": 0.2});
    assert!(of(plain).unwrap_err().contains("original_max_position_embeddings"));
}

#[test]
fn windows_of_modernbert_reach_half_as_far_as_the_config_says() {
    let window = |changes: Value| {
        let mut all = json!({"layer_types": ["full_attention", "sliding_attention", "full_attention"]});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        lower_plain("modernbert-decoder", all_with_width(all)).map(|spec| attention(&spec, 1).mask)
    };
    assert_eq!(window(json!({"local_attention": 17})).unwrap(), AttentionMask::Sliding { window: 8 });
    let saved = json!({"local_attention": 17, "sliding_window": 5});
    assert_eq!(window(saved).unwrap(), AttentionMask::Sliding { window: 5 });
    assert!(window(json!({"local_attention": null})).is_err());
    assert!(window(json!({"local_attention": 1})).is_err());
}

fn all_with_width(mut changes: Value) -> Value {
    changes["intermediate_size"] = json!(40);
    changes
}

#[test]
fn the_norm_of_bitnet_is_as_wide_as_its_heads() {
    assert!(lower("bitnet", json!({})).is_ok());
    assert!(lower("bitnet", json!({"head_dim": 4})).unwrap_err().to_string().contains("head_dim"));
}

#[test]
fn the_first_gpt_names_activations_in_its_own_way() {
    let of = |name: &str| lower_plain("openai-gpt", json!({"afn": name})).map(|spec| activation(&spec));
    assert_eq!(of("gelu").unwrap(), Activation::GeluTanh);
    assert_eq!(of("swish").unwrap(), Activation::Silu);
    assert!(of("gelu_new").is_err());
}

#[test]
fn internlm3_has_biases_everywhere_or_nowhere() {
    let bias = |qkv: bool, rest: bool| lower("internlm3", json!({"head_dim": 8, "qkv_bias": qkv, "bias": rest}));
    assert!(attention(&bias(true, true).unwrap(), 0).bias.o);
    assert!(bias(true, false).is_err());
}

#[test]
fn falcons_layers_are_those_that_transformers_can_run() {
    let falcon = |changes: Value| {
        let mut config = json!({"num_attention_heads": 4, "num_kv_heads": 2});
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        // Its class has no such keys.
        config["num_key_value_heads"] = Value::Null;
        config["intermediate_size"] = Value::Null;
        lower("falcon", config)
    };
    let norms = |spec: &ModelSpec| -> Vec<&str> { spec.backbone.layers[0].norms().map(|norm| norm.name).collect() };
    let new = falcon(json!({"new_decoder_architecture": true})).unwrap();
    assert_eq!((norms(&new), attention(&new, 0).num_key_value_heads), (vec!["ln_attn", "ln_mlp"], 2));
    let old = falcon(json!({})).unwrap();
    assert_eq!((norms(&old), attention(&old, 0).num_key_value_heads), (vec!["input_layernorm"], 1));
    let one = json!({"new_decoder_architecture": true, "num_ln_in_parallel_attn": 1});
    assert_eq!(norms(&falcon(one).unwrap()), ["input_layernorm"]);
    for refused in [
        json!({"new_decoder_architecture": true, "parallel_attn": false}),
        json!({"new_decoder_architecture": true, "num_ln_in_parallel_attn": 0}),
        json!({"num_ln_in_parallel_attn": 2}),
        json!({"multi_query": false}),
    ] {
        assert!(falcon(refused.clone()).is_err(), "{refused}");
    }
    let biased = falcon(json!({"alibi": true})).unwrap();
    assert_eq!(attention(&biased, 0).alibi, Some(Alibi { before_scale: true, in_bfloat16: true }));
    assert_eq!(attention(&biased, 0).rope, None);
}

#[test]
fn lists_by_layer_are_as_long_as_the_model() {
    let granite = |thetas: Value| lower("granite_swa", json!({"layer_rope_theta": thetas}));
    let spec = granite(json!([0, 500, 1e4])).unwrap();
    assert_eq!((attention(&spec, 0).rope.is_none(), rope(&spec, 1).theta), (true, 500.0));
    for refused in [json!([0, 500]), json!([0, -500, 1]), json!("none")] {
        assert!(granite(refused.clone()).is_err(), "{refused}");
    }
    let laguna = |changes: Value| lower("laguna", changes);
    let spec = laguna(json!({"num_attention_heads_per_layer": [2, 4, 6]})).unwrap();
    assert_eq!((attention(&spec, 0).num_attention_heads, attention(&spec, 2).num_attention_heads), (2, 6));
    for refused in [
        json!({"num_attention_heads_per_layer": [2, 4]}),
        json!({"num_attention_heads_per_layer": [2, 4, 5]}),
        json!({"mlp_layer_types": ["dense", "sparse"]}),
        json!({"mlp_layer_types": ["dense", "sparse", "thick"]}),
        json!({"gating": false}),
        json!({"moe_apply_router_weight_on_input": true}),
    ] {
        assert!(laguna(refused.clone()).is_err(), "{refused}");
    }
}

#[test]
fn mimos_windows_count_the_query_only_where_the_key_says_so() {
    let window = |changes: Value| attention(&lower("mimo_v2_flash", changes).unwrap(), 1).mask;
    assert_eq!(window(json!({"sliding_window": 8})), AttentionMask::Sliding { window: 8 });
    let both = json!({"sliding_window": 8, "sliding_window_size": 8});
    assert_eq!(window(both), AttentionMask::Sliding { window: 9 });
}
