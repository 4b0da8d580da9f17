//! Mistral: Llama with a sliding window.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "mistral",
    architectures: &["MistralForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(14_336)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("sliding_window", Int(4096)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.mask = uniform_window(config)?;
    template.build_uniform()
}
