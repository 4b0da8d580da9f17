//! Nemotron: layer norms that add one to their weight, partial rotation, a plain MLP of squared ReLU.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "nemotron",
    architectures: &["NemotronForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(256_000)),
        ("hidden_size", Int(6144)),
        ("intermediate_size", Int(24_576)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(48)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("relu2")),
        ("max_position_embeddings", Int(4096)),
        ("norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "norm_eps", ..Keys::LLAMA };
    let defaults = RopeDefaults { partial_rotary_factor: 0.5, ..RopeDefaults::default() };
    let mut template = Template::read(config, &keys)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    // Minitron's configs have it from NeMo; the class does not read it.
    config.must_agree("kv_channels", template.attention.head_dim, "head_dim")?;
    template.norm.kind = NormKind::LayerNormOneOffset;
    template.attention.bias = attention_bias(config)?;
    template.with_plain_mlp(config.bool("mlp_bias")?).build_uniform()
}
