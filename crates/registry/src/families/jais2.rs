//! Jais 2: Llama with layer norms, biases and a plain MLP of squared ReLU.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "jais2",
    architectures: &["Jais2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(150_272)),
        ("hidden_size", Int(3328)),
        ("intermediate_size", Int(26_624)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(26)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("relu2")),
        ("max_position_embeddings", Int(8192)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(true)),
        ("mlp_bias", Bool(true)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "layer_norm_eps", ..Keys::LLAMA };
    let mut template =
        Template::read(config, &keys)?.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)?;
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.attention.bias = attention_bias(config)?;
    template.with_plain_mlp(config.bool("mlp_bias")?).build_uniform()
}
