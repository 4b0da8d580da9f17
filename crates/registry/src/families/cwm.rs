//! Meta's Code World Model: Llama with three windowed layers to one full.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "cwm",
    architectures: &["CwmForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(128_256)),
        ("hidden_size", Int(6144)),
        ("intermediate_size", Int(21_504)),
        ("num_hidden_layers", Int(64)),
        ("num_attention_heads", Int(48)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("mlp_bias", Bool(false)),
        ("sliding_window", Int(8192)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?.with_mlp_bias(config, "mlp_bias")?;
    template.attention.rope = Some(rope(config, template.attention.head_dim)?);
    let window = config.usize_or_null("sliding_window")?;
    let first_of_four = |index: usize| if index.is_multiple_of(4) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, first_of_four)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        Ok(())
    })
}

/// The class has parameters for configs without any.
fn rope(config: &FamilyConfig<'_>, head_dim: usize) -> Result<RopeSpec, RegistryError> {
    const THETA: f64 = 1_000_000.0;
    if !gives_rope_parameters(config) {
        let scaling = RopeScaling::Llama3 {
            factor: 16.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        return Ok(RopeSpec { theta: THETA, rotary_dim: head_dim, pairing: RopePairing::HalfSplit, scaling });
    }
    let defaults = RopeDefaults { theta: THETA, ..RopeDefaults::default() };
    RopeByLayerType::read(config, defaults, head_dim, RopePairing::HalfSplit)?.uniform().cloned()
}
