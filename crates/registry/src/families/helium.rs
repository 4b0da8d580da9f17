//! Helium: Llama with interleaved rotation.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "helium",
    architectures: &["HeliumForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(48_000)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(7040)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(20)),
        ("num_key_value_heads", Int(20)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(4096)),
        ("rms_norm_eps", Float(1e-08)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 100_000.0, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::Interleaved)?;
    template.norm.kind = NormKind::RmsProductInFloat32;
    template.attention.bias = AttentionBias::qkv_o(config.bool("attention_bias")?, false);
    template.with_mlp_bias(config, "mlp_bias")?.build_uniform()
}
