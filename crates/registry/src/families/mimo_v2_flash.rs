//! MiMo-V2-Flash: values narrower than keys, windows with sinks and twice the key-value heads on five of six layers, DeepSeek-V3's routing
//! without shared experts.

use super::prelude::*;
use serde_json::Value;

pub static FAMILY: Family = Family {
    model_type: "mimo_v2_flash",
    architectures: &["MiMoV2FlashForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code that the checkpoint came with: transformers' class has these values built in, and rope parameters by layer type.
    ignored_keys: &[
        "add_full_attention_sink_bias",
        "add_swa_attention_sink_bias",
        "attention_chunk_size",
        "hybrid_block_size",
        "hybrid_layer_pattern",
        "layernorm_epsilon",
        "moe_layer_freq",
        "n_shared_experts",
        "partial_rotary_factor",
        "rope_theta",
        "scoring_func",
        "swa_head_dim",
        "swa_num_attention_heads",
        "swa_num_key_value_heads",
        "swa_rope_theta",
        "swa_v_head_dim",
        "topk_method",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(152_576)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(16_384)),
        ("num_hidden_layers", Int(48)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Int(4)),
        ("head_dim", Int(192)),
        ("v_head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("attention_value_scale", Float(0.707)),
        ("sliding_window", Int(129)),
        ("layer_types", Null),
        ("mlp_layer_types", Null),
        ("moe_intermediate_size", Int(2048)),
        ("num_experts_per_tok", Int(8)),
        ("n_routed_experts", Int(256)),
        ("routed_scaling_factor", Float(1.0)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("norm_topk_prob", Bool(true)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

const LAYOUT: Layout = Layout {
    rules: &[Rule::Rename("self_attn.sinks", "self_attn.attention_sink_bias")],
    ignored: &[("model.mtp.*", "layers that predict several tokens ahead")],
    ..DEEPSEEK_MOE_LAYOUT
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?;
    let bias = config.bool("attention_bias")?;
    let attention = &mut template.attention;
    attention.bias = AttentionBias::qkv_o(bias, false);
    attention.value_head_dim = Some(config.usize("v_head_dim")?);
    attention.value_scale = config.f64_or_null("attention_value_scale")?;
    let layers = template.num_hidden_layers;
    let ropes = ropes(config, template.attention.head_dim)?;
    let window = window(config)?;
    let default_type = |index: usize| {
        if index == 0 || (index + 1).is_multiple_of(6) { "full_attention" } else { "sliding_attention" }
    };
    let types = layer_types(config, layers, default_type)?;
    let is_sparse = sparse_layers(config, layers, |index| index > 0)?;
    let moe = deepseek_experts(config, "n_routed_experts")?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], Some(window))?;
        attention.rope = ropes.of(&types[index])?;
        if attention.mask != AttentionMask::Full {
            attention.num_key_value_heads = attention.num_key_value_heads.saturating_mul(2);
            attention.sinks = true;
        }
        if is_sparse[index] {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}

/// `sliding_window`, which counts the query; `sliding_window_size`, which does not, comes before it.
fn window(config: &FamilyConfig<'_>) -> Result<usize, RegistryError> {
    let window = config.usize("sliding_window")?;
    Ok(config.count_or_null("sliding_window_size")?.map_or(window, |size| size + 1))
}

fn ropes(config: &FamilyConfig<'_>, head_dim: usize) -> Result<RopeByLayerType, RegistryError> {
    // The part that rotates has a default for the default type alone; the other types would rotate whole heads.
    let given = config.resolved().peek("rope_parameters").and_then(Value::as_object);
    for rope in given.into_iter().flat_map(|given| given.values()) {
        let is_default = rope.get("rope_type").is_none_or(|kind| kind == "default");
        if rope.is_object() && !is_default && rope.get("partial_rotary_factor").is_none() {
            return Err(
                config.unsupported("rope_parameters", "a type other than default needs a partial_rotary_factor")
            );
        }
    }
    let layer = |layer_type, theta| RopeLayer {
        layer_type,
        defaults: RopeDefaults { theta, partial_rotary_factor: 0.334 },
        theta_key: None,
        takes_rope_scaling: false,
    };
    let layers = [layer("full_attention", 5_000_000.0), layer("sliding_attention", 10_000.0)];
    RopeByLayerType::by_layer_type(config, &layers, head_dim)
}
