//! The text models of Qwen2-VL and Qwen2.5-VL: Qwen2. Each token has three positions, which are one for text.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "qwen2_vl_text",
    architectures: &[],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

/// The two classes are alike.
pub static QWEN2_5: Family = Family { model_type: "qwen2_5_vl_text", ..FAMILY };

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(152_064)),
        ("hidden_size", Int(8192)),
        ("intermediate_size", Int(29_568)),
        ("num_hidden_layers", Int(80)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("use_sliding_window", Bool(false)),
        ("sliding_window", Int(4096)),
        ("max_window_layers", Int(80)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { head_dim: None, ..Keys::LLAMA };
    let mut template =
        Template::read(config, &keys)?.with_text_positions(config, &TextPositions::whole(1_000_000.0))?;
    template.attention.bias = AttentionBias::qkv_o(true, false);
    super::build_with_upper_windows(config, template)
}
