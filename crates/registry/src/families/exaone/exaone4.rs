//! EXAONE 4: norms after each branch and on heads; full layers do not rotate where others have a window.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "exaone4",
    architectures: &["Exaone4ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(102_400)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(16_384)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("sliding_window", Int(4096)),
        ("sliding_window_pattern", Int(4)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?.with_qk_norm(QkNormExtent::Head);
    template.layer = LayerSpec::post;
    let window = config.usize_or_null("sliding_window")?;
    let pattern = super::SlidingPattern::read(config, window.is_some())?;
    let types = layer_types(config, template.num_hidden_layers, |index| pattern.layer_type(index))?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        if window.is_some() && attention.mask == AttentionMask::Full {
            attention.rope = None;
        }
        Ok(())
    })
}
