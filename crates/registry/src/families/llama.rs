//! Llama, and everything published in its layout (Yi, DeepSeek-LLM, TinyLlama, ...).

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "llama",
    architectures: &["LlamaForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // SmolLM and Falcon 3 carry names of their training code, DeepSeek's dense models settings of experts that they lack, others
    // the chunks of Llama 4's attention.
    ignored_keys: &[
        "attention_chunk_size",
        "is_llama_config",
        "activation",
        "ep_size",
        "first_k_dense_replace",
        "moe_layer_freq",
        "norm_topk_prob",
        "scoring_func",
    ],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_000)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(11_008)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.bias = attention_bias(config)?;
    template.with_mlp_bias(config, "mlp_bias")?.build_uniform()
}
