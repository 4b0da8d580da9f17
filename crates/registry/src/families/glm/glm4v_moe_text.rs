//! The text model of GLM-4.5V: GLM-4.5 without norms on heads. Each token has three positions, which are one for text.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm4v_moe_text",
    architectures: &[],
    defaults: &DEFAULTS,
    lower,
    // GLM-4.5V has it, and no norms.
    ignored_keys: &["use_qk_norm"],
    layout: super::super::glm4_moe::LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_424)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(10_944)),
        ("num_hidden_layers", Int(46)),
        ("num_attention_heads", Int(96)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(65_536)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(true)),
        ("moe_intermediate_size", Int(1408)),
        ("num_experts_per_tok", Int(8)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(128)),
        ("routed_scaling_factor", Float(1.0)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("first_k_dense_replace", Int(1)),
        ("norm_topk_prob", Bool(true)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let rope = TextPositions { partial_rotary_factor: 0.5, ..TextPositions::PARTIAL };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_text_positions(config, &rope)?;
    template.attention.bias = AttentionBias::qkv_o(config.bool("attention_bias")?, false);
    let moe = deepseek_moe(config)?;
    let dense = config.count("first_k_dense_replace")?;
    template.build(|index, layer| {
        if index >= dense {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
