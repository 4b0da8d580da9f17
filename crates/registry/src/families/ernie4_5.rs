//! ERNIE 4.5, dense: Llama with interleaved rotation and one flag for all biases.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "ernie4_5",
    architectures: &["Ernie4_5ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(103_424)),
        ("hidden_size", Int(1024)),
        ("intermediate_size", Int(3072)),
        ("num_hidden_layers", Int(18)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Int(2)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("head_dim", Int(128)),
        ("use_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 500_000.0, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::Interleaved)?;
    let bias = config.bool("use_bias")?;
    template.attention.bias = AttentionBias::qkv_o(bias, bias);
    template.with_mlp_bias(config, "use_bias")?.build_uniform()
}
