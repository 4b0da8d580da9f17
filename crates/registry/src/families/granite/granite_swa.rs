//! Granite with sinks, windows on most layers, and a base of the rotation for each layer.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "granite_swa",
    architectures: &["GraniteSWAForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(100_352)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(8192)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(20)),
        ("num_key_value_heads", Int(4)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(8192)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
        ("embedding_multiplier", Float(1.0)),
        ("logits_scaling", Float(1.0)),
        ("residual_multiplier", Float(1.0)),
        ("attention_multiplier", Float(1.0)),
        ("sliding_window", Int(128)),
        ("layer_types", Null),
        ("layer_rope_theta", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::llama(config)?.with_granite_factors(config)?;
    super::build_with_sinks(config, template.with_mlp_bias(config, "mlp_bias")?)
}
