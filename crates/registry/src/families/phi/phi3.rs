//! Phi-3 and Phi-4: fused projections, LongRoPE, partial rotation in Phi-4-mini.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "phi3",
    architectures: &["Phi3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &["attention_bias", "mlp_bias", "lm_head_bias", "full_attn_mod", "interpolate_factor"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_064)),
        ("hidden_size", Int(3072)),
        ("intermediate_size", Int(8192)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("original_max_position_embeddings", Int(4096)),
        ("sliding_window", Null),
    ],
    aliases: &[],
};

const LAYOUT: Layout =
    Layout { rules: &[packed_qkv("self_attn.qkv_proj", PackOrder::Rows), PACKED_GATE_UP], ..Layout::LLAMA };

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    // The first releases say "su" or "yarn" and mean LongRoPE (transformers, configuration_phi3.py).
    let options = RopeOptions { type_aliases: &[("su", "longrope"), ("yarn", "longrope")], ..RopeOptions::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?;
    let rope = RopeByLayerType::read_with(config, &options, template.attention.head_dim, RopePairing::HalfSplit)?;
    let mut rope = rope.uniform()?.clone();
    if let RopeScaling::LongRope(scaling) = &mut rope.scaling {
        // The only class of transformers that does so (`prepare_inputs_for_generation`, modeling_phi3.py).
        scaling.cache_valid_to = config.usize_or_null("original_max_position_embeddings")?;
    }
    template.attention.rope = Some(rope);
    template.attention.mask = uniform_window(config)?;
    template.build_uniform()
}
