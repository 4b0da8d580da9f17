//! Tencent HunYuan: Llama with norms on heads after the rotation, whose base may be stretched.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "hunyuan_v1_dense",
    architectures: &["HunYuanDenseV1ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: super::IGNORED,
    layout: super::LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(290_943)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    Template::hunyuan(config)?.build_uniform()
}
