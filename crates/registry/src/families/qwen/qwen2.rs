//! Qwen2 and Qwen2.5: biases on queries, keys and values; windows on the upper layers if the config says so.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "qwen2",
    architectures: &["Qwen2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The 1M variants give other engines a sparse attention; transformers computes the ordinary one.
    ignored_keys: &["use_mrope", "dual_chunk_attention_config"],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(151_936)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(22_016)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(32_768)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("use_sliding_window", Bool(false)),
        ("sliding_window", Int(4096)),
        ("max_window_layers", Int(28)),
        ("layer_types", Null),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.attention.bias = AttentionBias::qkv_o(true, false);
    super::build_with_upper_windows(config, template)
}
