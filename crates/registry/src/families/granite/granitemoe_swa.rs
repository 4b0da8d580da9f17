//! Granite's mixtures of experts with sinks, windows on most layers, and a base of the rotation for each layer.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "granitemoe_swa",
    architectures: &["GraniteMoeSWAForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    // Saved under the names of its modules.
    layout: Layout { rules: super::MODULE_RULES, ..Layout::LLAMA },
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("embedding_multiplier", Float(1.0)),
        ("logits_scaling", Float(1.0)),
        ("residual_multiplier", Float(1.0)),
        ("attention_multiplier", Float(1.0)),
        ("num_local_experts", Int(8)),
        ("num_experts_per_tok", Int(2)),
        ("shared_intermediate_size", Int(0)),
        ("sliding_window", Int(128)),
        ("layer_types", Null),
        ("layer_rope_theta", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?.with_granite_factors(config)?;
    template.mlp = FeedForward::Moe(super::granite_moe_shared(config)?);
    super::build_with_sinks(config, template)
}
