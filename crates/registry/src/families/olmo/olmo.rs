//! OLMo: Llama with layer norms that have no parameters, and bounds on queries, keys and values.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "olmo",
    architectures: &["OlmoForCausalLM"],
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
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("clip_qkv", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    // `OlmoLayerNorm` of transformers has the epsilon in its code.
    let mut template = Template::read_with_eps(config, &Keys::LLAMA, 1e-5)?.with_rope(
        config,
        RopeDefaults::default(),
        RopePairing::HalfSplit,
    )?;
    template.norm.kind = NormKind::LayerNormWithoutParameters;
    template.attention.bias = attention_bias(config)?;
    template.attention.clip_qkv = config.f64_or_null("clip_qkv")?;
    template.build_uniform()
}
