//! GLM-4-0414: norms around both branches, interleaved partial rotation, fused gate and up projections.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm4",
    architectures: &["Glm4ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_552)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(13_696)),
        ("num_hidden_layers", Int(40)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(2)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1.5625e-07)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("attention_bias", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        PACKED_GATE_UP,
        Rule::Rename("post_attention_layernorm", "post_self_attn_layernorm"),
        Rule::Rename("pre_feedforward_layernorm", "post_attention_layernorm"),
        Rule::Rename("post_feedforward_layernorm", "post_mlp_layernorm"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { partial_rotary_factor: 0.5, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::Interleaved)?;
    template.layer = LayerSpec::sandwich;
    template.attention.bias = AttentionBias::qkv_o(config.bool("attention_bias")?, false);
    template.build_uniform()
}
