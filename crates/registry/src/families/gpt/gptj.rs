//! GPT-J: both branches off one norm, interleaved rotation with a fixed base, a bias in the head.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gptj",
    architectures: &["GPTJForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Left from the conversion; the class always rotates, and always scales scores.
    ignored_keys: &["rotary", "scale_attn_weights"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_400)),
        ("max_position_embeddings", Int(2048)),
        ("hidden_size", Int(4096)),
        ("num_hidden_layers", Int(28)),
        ("num_attention_heads", Int(16)),
        ("rotary_dim", Int(64)),
        ("n_inner", Null),
        ("activation_function", Str("gelu_new")),
        ("layer_norm_epsilon", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: super::ALIASES,
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "attn.out_proj"),
        Rule::Rename("self_attn", "attn"),
        Rule::Rename("mlp.up_proj", "mlp.fc_in"),
        Rule::Rename("mlp.down_proj", "mlp.fc_out"),
        Rule::Rename("model.embed_tokens", "transformer.wte"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
        Rule::Rename("input_layernorm", "ln_1"),
    ],
    prefixes: &[("transformer.", "")],
    ignored: super::BUFFERS,
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    super::gptj(config)?.build_uniform()
}
