//! OLMoE: routed experts in every layer, norms over whole queries and keys.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "olmoe",
    architectures: &["OlmoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_304)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(2048)),
        ("num_hidden_layers", Int(16)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("clip_qkv", Null),
        ("num_experts_per_tok", Int(8)),
        ("num_experts", Int(64)),
        ("norm_topk_prob", Bool(false)),
    ],
    aliases: &[("num_local_experts", "num_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?.with_qk_norm(QkNormExtent::Projection);
    template.attention.bias = attention_bias(config)?;
    template.attention.clip_qkv = config.f64_or_null("clip_qkv")?;
    let intermediate_size = config.usize("intermediate_size")?;
    let normalize = config.bool("norm_topk_prob")?;
    template.mlp = FeedForward::Moe(softmax_moe(config, "num_experts", intermediate_size, normalize)?);
    template.build_uniform()
}
