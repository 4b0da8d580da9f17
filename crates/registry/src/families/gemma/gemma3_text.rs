//! Gemma 3, the text model: Gemma 2 with norms on heads, five windowed layers to one full, and rope by layer type.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gemma3_text",
    architectures: &["Gemma3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["hidden_act", "_sliding_window_pattern"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(262_208)),
        ("hidden_size", Int(2304)),
        ("intermediate_size", Int(9216)),
        ("num_hidden_layers", Int(26)),
        ("num_attention_heads", Int(8)),
        ("num_key_value_heads", Int(4)),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("head_dim", Int(256)),
        ("attention_bias", Bool(false)),
        ("query_pre_attn_scalar", Int(256)),
        ("sliding_window", Int(4096)),
        ("layer_types", Null),
        ("final_logit_softcapping", Null),
        ("attn_logit_softcapping", Null),
        ("use_bidirectional_attention", Bool(false)),
        ("hidden_activation", Str("gelu_pytorch_tanh")),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    super::refuse_bidirectional(config)?;
    let mut template = Template::gemma2(config)?.with_qk_norm(QkNormExtent::Head);
    // The class has `attn_logit_softcapping`, but the attention does not use it (transformers, modeling_gemma3.py).
    template.attention.softcap = None;
    let window = config.usize_or_null("sliding_window")?;
    let pattern = sliding_window_pattern(config, 6)?;
    let every_nth =
        |index: usize| if (index + 1).is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, every_nth)?;
    let theta = LayerTypeThetas { full: 1_000_000.0, sliding: 10_000.0, sliding_key: Some("rope_local_base_freq") };
    let rope = RopeByLayerType::full_and_sliding(config, &theta, template.attention.head_dim)?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        attention.rope = rope.of(&types[index])?;
        Ok(())
    })
}
