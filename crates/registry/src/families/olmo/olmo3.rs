//! OLMo 3: OLMo 2 with three windowed layers to one full, and rope by layer type.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "olmo3",
    architectures: &["Olmo3ForCausalLM"],
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
        ("sliding_window", Int(4096)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::olmo2(config)?;
    let window = config.usize_or_null("sliding_window")?;
    let every_fourth =
        |index: usize| if (index + 1).is_multiple_of(4) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, every_fourth)?;
    let theta = LayerTypeThetas { full: 500_000.0, sliding: 500_000.0, sliding_key: None };
    let rope = RopeByLayerType::full_and_sliding(config, &theta, template.attention.head_dim)?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        attention.rope = rope.of(&types[index])?;
        Ok(())
    })
}
