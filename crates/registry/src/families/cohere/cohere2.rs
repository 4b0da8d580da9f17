//! Command R7B and A: Command R with three windowed, rotating layers to one full layer without positions.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "cohere2",
    architectures: &["Cohere2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[
        "_sliding_window_pattern",
        "sliding_window_pattern",
        "rotary_pct",
        "order_of_interleaved_layers",
        "position_embedding_type",
        "use_embedding_sharing",
        "use_gated_activation",
        "use_parallel_block",
        "use_parallel_embedding",
        "use_qk_norm",
        "layer_switch",
    ],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(256_000)),
        ("hidden_size", Int(8192)),
        ("intermediate_size", Int(22_528)),
        ("num_hidden_layers", Int(40)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(8192)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("logit_scale", Float(0.0625)),
        ("attention_bias", Bool(false)),
        ("sliding_window", Int(4096)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "layer_norm_eps", ..Keys::LLAMA };
    let template = Template::read(config, &keys)?.with_cohere_head_and_norms(config)?.with_rope(
        config,
        RopeDefaults::default(),
        RopePairing::Interleaved,
    )?;
    let window = config.usize_or_null("sliding_window")?;
    let pattern = sliding_window_pattern(config, 4)?;
    let every_nth =
        |index: usize| if (index + 1).is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, every_nth)?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        if attention.mask == AttentionMask::Full {
            attention.rope = None;
        }
        Ok(())
    })
}
