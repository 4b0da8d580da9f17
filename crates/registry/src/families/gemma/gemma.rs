//! Gemma: scaled embeddings, norms with an offset of one, tanh-GELU.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gemma",
    architectures: &["GemmaForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Gemma 1.1 repeats the activation under Gemma 2's name.
    ignored_keys: &["hidden_activation"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(256_000)),
        ("hidden_size", Int(3072)),
        ("intermediate_size", Int(24_576)),
        ("num_hidden_layers", Int(28)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Int(16)),
        ("hidden_act", Str("gelu_pytorch_tanh")),
        ("max_position_embeddings", Int(8192)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(true)),
        ("head_dim", Int(256)),
        ("attention_bias", Bool(false)),
        ("use_bidirectional_attention", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    super::refuse_bidirectional(config)?;
    let mut template = Template::llama(config)?.with_gemma_embedding_and_norms();
    template.attention.bias = attention_bias(config)?;
    // The first releases say "gelu" and mean its tanh approximation (transformers, configuration_gemma.py).
    if config.str("hidden_act")? == "gelu"
        && let Some(mlp) = template.dense_mlp()
    {
        mlp.activation = Activation::GeluTanh;
    }
    template.build_uniform()
}
