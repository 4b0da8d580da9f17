//! The first Ling models: one projection for queries, keys and values, experts chosen by softmax, shared experts.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "bailing_moe",
    architectures: &["BailingMoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["output_dropout"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Int(0)),
        ("hidden_act", Str("silu")),
        ("use_qkv_bias", Bool(false)),
        ("use_bias", Bool(true)),
        ("rms_norm_eps", Float(1e-05)),
        ("norm_head", Bool(false)),
        ("tie_word_embeddings", Bool(false)),
        ("max_position_embeddings", Int(16_384)),
        ("use_sliding_window", Bool(false)),
        ("sliding_window", Int(4096)),
        ("max_window_layers", Int(28)),
        ("num_shared_experts", Int(0)),
        ("norm_topk_prob", Bool(true)),
        ("first_k_dense_replace", Int(0)),
        ("head_dim", Null),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("attention.query_key_value", PackOrder::Rows),
        Rule::Rename("self_attn.o_proj", "attention.dense"),
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("model.embed_tokens", "model.word_embeddings"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?.with_older_rope(config)?;
    template.attention.bias = AttentionBias::qkv_o(config.bool("use_qkv_bias")?, config.bool("use_bias")?);
    super::must_be(config, "norm_head", false)?;
    super::must_be(config, "use_sliding_window", false)?;
    // Without windows, these have no effect.
    config.resolved().mark_read("sliding_window");
    config.resolved().mark_read("max_window_layers");
    let width = config.usize("moe_intermediate_size")?;
    let mut moe = softmax_moe(config, "num_experts", width, false)?;
    if config.bool("norm_topk_prob")? && moe.num_experts_per_tok > 1 {
        moe.router.normalize = Normalize::Sum;
    }
    let shared = config.count("num_shared_experts")?;
    if shared > 0 {
        moe.shared_expert = Some(shared_experts(config, &moe.expert, shared)?);
    }
    let dense = config.count("first_k_dense_replace")?;
    template.build(|index, layer| {
        if index >= dense {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
