//! Orion: Llama with layer norms.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "orion",
    architectures: &["OrionForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys { head_dim: None, ..Keys::LLAMA })?.with_older_rope(config)?;
    // The key is called after RMS norms, which the code does not have.
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.attention.bias = attention_bias(config)?;
    template.build_uniform()
}
