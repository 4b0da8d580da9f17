//! Arcee AFM: Llama with a plain MLP, of squared ReLU.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "arcee",
    architectures: &["ArceeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(18_432)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("relu2")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.bias = attention_bias(config)?;
    template.with_plain_mlp(config.bool("mlp_bias")?).build_uniform()
}
