//! Qwen2-MoE: routed experts and a gated shared expert.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "qwen2_moe",
    architectures: &["Qwen2MoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_936)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(5632)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Int(16)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("use_sliding_window", Bool(false)),
        ("sliding_window", Int(4096)),
        ("max_window_layers", Int(28)),
        ("decoder_sparse_step", Int(1)),
        ("moe_intermediate_size", Int(1408)),
        ("shared_expert_intermediate_size", Int(5632)),
        ("num_experts_per_tok", Int(4)),
        ("num_experts", Int(60)),
        ("norm_topk_prob", Bool(false)),
        ("mlp_only_layers", Null),
        ("qkv_bias", Bool(true)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.bias = AttentionBias::qkv_o(config.bool("qkv_bias")?, false);
    let mut moe = super::qwen_moe(config, "num_experts")?;
    let shared = config.usize("shared_expert_intermediate_size")?;
    let mlp = MlpSpec { intermediate_size: shared, ..moe.expert.clone() };
    moe.shared_expert = Some(SharedExpert { mlp, gate: true, norms: None });
    let sparse = super::SparseLayers::read(config)?;
    let windowed = config.bool("use_sliding_window")?;
    let window = config.count_or_null("sliding_window")?.filter(|&window| windowed && window > 0);
    let below = config.count("max_window_layers")?;
    let default_type = |index: usize| {
        if index.is_multiple_of(2) && index < below && windowed { "sliding_attention" } else { "full_attention" }
    };
    let types = layer_types(config, template.num_hidden_layers, default_type)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        if sparse.contains(index) {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
