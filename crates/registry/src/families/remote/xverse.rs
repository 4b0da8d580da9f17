//! XVERSE: Llama by another name.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "xverse",
    architectures: &["XverseForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["max_tokenizer_truncation"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &Keys { head_dim: None, ..Keys::LLAMA })?.with_older_rope(config)?;
    if template.attention.rope.as_ref().is_some_and(|rope| rope.scaling != RopeScaling::Default) {
        return Err(config.unsupported("rope_scaling", "the published checkpoints have none"));
    }
    template.build_uniform()
}
