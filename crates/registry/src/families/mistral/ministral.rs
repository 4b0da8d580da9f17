//! Ministral: Mistral with a mask per layer.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "ministral",
    architectures: &["MinistralForCausalLM"],
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
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::llama(config)?;
    let window = config.usize_or_null("sliding_window")?;
    let default = if window.is_some() { "sliding_attention" } else { "full_attention" };
    let types = layer_types(config, template.num_hidden_layers, |_| default)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        Ok(())
    })
}
