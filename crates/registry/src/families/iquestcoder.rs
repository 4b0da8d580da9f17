//! IQuest-Coder: Llama by another name.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "iquestcoder",
    architectures: &["IQuestCoderForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(76_800)),
        ("hidden_size", Int(5120)),
        ("intermediate_size", Int(27_648)),
        ("num_hidden_layers", Int(80)),
        ("num_attention_heads", Int(40)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.bias = attention_bias(config)?;
    // The class refuses both.
    if config.f64_or_null("clip_qkv")?.is_some() {
        return Err(config.unsupported("clip_qkv", "the class of transformers does not compute it"));
    }
    if config.bool_or_null("use_sliding_window")?.unwrap_or(false) {
        return Err(config.unsupported("use_sliding_window", "the class of transformers does not compute it"));
    }
    template.with_mlp_bias(config, "mlp_bias")?.build_uniform()
}
