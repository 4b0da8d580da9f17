//! Qwen3-MoE: Qwen3 with routed experts.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "qwen3_moe",
    architectures: &["Qwen3MoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Published files carry Qwen2's `max_window_layers`, those of Qwen3-Coder more of Qwen2-MoE's keys.
    ignored_keys: &["max_window_layers", "qkv_bias", "shared_expert_intermediate_size", "use_qk_norm"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_936)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(6144)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(4)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
        ("use_sliding_window", Bool(false)),
        ("sliding_window", Int(4096)),
        ("decoder_sparse_step", Int(1)),
        ("moe_intermediate_size", Int(768)),
        ("num_experts_per_tok", Int(8)),
        ("num_experts", Int(128)),
        ("norm_topk_prob", Bool(false)),
        ("mlp_only_layers", Null),
    ],
    aliases: &[("num_local_experts", "num_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?.with_qk_norm(QkNormExtent::Head);
    template.attention.bias = attention_bias(config)?;
    let windowed = config.bool("use_sliding_window")?;
    let window = uniform_window(config)?;
    if windowed {
        template.attention.mask = window;
    }
    let moe = super::qwen_moe(config, "num_experts")?;
    let sparse = super::SparseLayers::read(config)?;
    template.build(|index, layer| {
        if sparse.contains(index) {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
