//! XGLM: positions as sines and cosines, scaled embeddings, norms before the branches.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "xglm",
    architectures: &["XGLMForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(256_008)),
        ("max_position_embeddings", Int(2048)),
        ("hidden_size", Int(1024)),
        ("ffn_dim", Int(4096)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(16)),
        ("activation_function", Str("gelu")),
        ("scale_embedding", Bool(true)),
        ("pad_token_id", Int(1)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[
        ("d_model", "hidden_size"),
        ("num_layers", "num_hidden_layers"),
        ("attention_heads", "num_attention_heads"),
    ],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "self_attn.out_proj"),
        Rule::Rename("mlp.up_proj", "fc1"),
        Rule::Rename("mlp.down_proj", "fc2"),
        Rule::Rename("input_layernorm", "self_attn_layer_norm"),
        Rule::Rename("post_attention_layernorm", "final_layer_norm"),
        Rule::Rename("model.norm.", "model.layer_norm."),
    ],
    ignored: &[("*embed_positions.weights", "sines and cosines, which are computed")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = super::read(config, "activation_function", "ffn_dim")?;
    if config.bool("scale_embedding")? {
        template.embedding.scale = Some((template.hidden_size as f64).sqrt());
    }
    // The row of the padding token is zero, in a table whose first rows no position has (modeling_xglm.py).
    let without = config.count_or_null("pad_token_id")?.and_then(|row| row.checked_sub(super::OFFSET));
    template.embedding.sinusoids = Some(Sinusoids { offset: super::OFFSET, without });
    template.build_uniform()
}
