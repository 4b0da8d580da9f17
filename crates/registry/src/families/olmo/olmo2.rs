//! OLMo 2: norms after each branch and over whole queries and keys.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "olmo2",
    architectures: &["Olmo2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_304)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::olmo2(config)?;
    template.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)?.build_uniform()
}
