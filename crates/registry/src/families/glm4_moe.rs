//! GLM-4.5: partial rotation, DeepSeek-V3's mixture of experts.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm4_moe",
    architectures: &["Glm4MoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_552)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(10_944)),
        ("num_hidden_layers", Int(46)),
        ("num_attention_heads", Int(96)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("moe_intermediate_size", Int(1408)),
        ("num_experts_per_tok", Int(8)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(128)),
        ("routed_scaling_factor", Float(1.0)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("first_k_dense_replace", Int(1)),
        ("norm_topk_prob", Bool(true)),
        ("use_qk_norm", Bool(false)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

/// The layer after the last predicts a token more: GLM-4.5-Air has 46 others, GLM-4.5 has 92.
pub(super) const LAYOUT: Layout = Layout {
    ignored: &[
        ("model.layers.46.*", "a layer that predicts one token more"),
        ("model.layers.92.*", "a layer that predicts one token more"),
    ],
    ..DEEPSEEK_MOE_LAYOUT
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { partial_rotary_factor: 0.5, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    template.attention.bias = AttentionBias::qkv_o(config.bool("attention_bias")?, false);
    if config.bool("use_qk_norm")? {
        template = template.with_qk_norm(QkNormExtent::Head);
    }
    let moe = deepseek_moe(config)?;
    let dense = config.count("first_k_dense_replace")?;
    template.build(|index, layer| {
        if index >= dense {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
