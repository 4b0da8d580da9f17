//! The text model of GLM-4.1V: GLM-4-0414. Each token has three positions, which are one for text.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "glm4v_text",
    architectures: &[],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: super::glm4::LAYOUT,
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
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { head_dim: None, ..Keys::LLAMA };
    let rope = TextPositions { pairing: RopePairing::Interleaved, ..TextPositions::PARTIAL };
    let mut template = Template::read(config, &keys)?.with_text_positions(config, &rope)?;
    template.attention.bias = AttentionBias::qkv_o(true, false);
    template.layer = LayerSpec::sandwich;
    template.build_uniform()
}
