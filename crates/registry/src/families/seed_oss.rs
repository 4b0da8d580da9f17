//! Seed-OSS: Llama with separate flags for the biases of the projections.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "seed_oss",
    architectures: &["SeedOssForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(155_136)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(27_648)),
        ("num_hidden_layers", Int(64)),
        ("num_attention_heads", Int(80)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(524_288)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("attention_bias", Bool(true)),
        ("attention_out_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    let qkv = config.bool("attention_bias")?;
    let out = config.bool("attention_out_bias")?;
    template.attention.bias = AttentionBias::qkv_o(qkv, out);
    template.with_mlp_bias(config, "mlp_bias")?.build_uniform()
}
