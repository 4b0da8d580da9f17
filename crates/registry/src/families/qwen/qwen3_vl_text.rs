//! The text model of Qwen3-VL: Qwen3 without windows. Each token has three positions, which are one for text.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "qwen3_vl_text",
    architectures: &[],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_936)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(22_016)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(128_000)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template =
        Template::read(config, &Keys::LLAMA)?.with_text_positions(config, &TextPositions::whole(500_000.0))?;
    template.attention.bias = attention_bias(config)?;
    template.with_qk_norm(QkNormExtent::Head).build_uniform()
}
