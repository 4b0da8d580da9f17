//! dots.llm1: Qwen3's attention, DeepSeek-V3's mixture of experts.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "dots1",
    architectures: &["Dots1ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code that came with the checkpoint; the class has no such keys and computes what the published values say.
    ignored_keys: &["moe_layer_freq", "scoring_func", "topk_method"],
    layout: DEEPSEEK_MOE_LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(152_064)),
        ("hidden_size", Int(4608)),
        ("intermediate_size", Int(10_944)),
        ("moe_intermediate_size", Int(1408)),
        ("num_hidden_layers", Int(62)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("n_shared_experts", Null),
        ("n_routed_experts", Null),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("num_experts_per_tok", Null),
        ("first_k_dense_replace", Int(0)),
        ("norm_topk_prob", Bool(false)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("routed_scaling_factor", Float(1.0)),
        ("sliding_window", Int(4096)),
        ("max_window_layers", Int(62)),
        ("layer_types", Null),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?.with_qk_norm(QkNormExtent::Head);
    template.attention.bias = attention_bias(config)?;
    let moe = deepseek_moe(config)?;
    let dense = config.count("first_k_dense_replace")?;
    let window = config.usize_or_null("sliding_window")?;
    let from = config.count("max_window_layers")?;
    let default_type = |index: usize| {
        if window.is_some() && index >= from { "sliding_attention" } else { "full_attention" }
    };
    let types = layer_types(config, template.num_hidden_layers, default_type)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        if index >= dense {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
