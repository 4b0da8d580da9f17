//! SmolLM3: every fourth layer without positions.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "smollm3",
    architectures: &["SmolLM3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["max_window_layers"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(128_256)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(36)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Int(4)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("use_sliding_window", Bool(false)),
        ("sliding_window", Null),
        ("no_rope_layers", Null),
        ("no_rope_layer_interval", Int(4)),
        ("layer_types", Null),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 2_000_000.0, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    template.attention.bias = attention_bias(config)?;
    template = template.with_mlp_bias(config, "mlp_bias")?;
    let layers = template.num_hidden_layers;
    let interval = config.usize("no_rope_layer_interval")?;
    let rotates = config.list_usize_or_null("no_rope_layers")?;
    let rotates: Vec<bool> = match rotates {
        Some(list) if list.len() >= layers => list.iter().map(|&flag| flag != 0).collect(),
        Some(list) => {
            return Err(config.inconsistent(format!(
                "no_rope_layers has {} entries for {layers} layers: give one for each",
                list.len()
            )));
        }
        None => (0..layers).map(|index| (index + 1) % interval != 0).collect(),
    };
    let windowed = config.bool("use_sliding_window")?;
    let window = config.usize_or_null("sliding_window")?;
    // `use_sliding_window` decides which layers get a window where the file does not; a layer that `layer_types` calls
    // sliding has one in any case, because the mask follows the type alone (transformers, modeling_smollm3.py).
    let default_type = |index: usize| {
        if windowed && window.is_some() && !rotates[index] { "sliding_attention" } else { "full_attention" }
    };
    let types = layer_types(config, layers, default_type)?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], window)?;
        if !rotates[index] {
            attention.rope = None;
        }
        Ok(())
    })
}
