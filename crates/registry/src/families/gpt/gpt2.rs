//! GPT-2: learned positions, layer norms, fused and transposed projections.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gpt2",
    architectures: &["GPT2LMHeadModel"],
    defaults: &DEFAULTS,
    lower,
    // Left from the first conversions from TensorFlow.
    ignored_keys: &["n_special", "predict_special_tokens"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_257)),
        ("max_position_embeddings", Int(1024)),
        ("hidden_size", Int(768)),
        ("num_hidden_layers", Int(12)),
        ("num_attention_heads", Int(12)),
        ("n_inner", Null),
        ("activation_function", Str("gelu_new")),
        ("layer_norm_epsilon", Float(1e-05)),
        ("scale_attn_weights", Bool(true)),
        ("scale_attn_by_inverse_layer_idx", Bool(false)),
        ("reorder_and_upcast_attn", Bool(false)),
        ("add_cross_attention", Bool(false)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: super::ALIASES,
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("attn.c_attn", PackOrder::Rows),
        Rule::Rename("self_attn.o_proj", "attn.c_proj"),
        Rule::Rename("mlp.up_proj", "mlp.c_fc"),
        Rule::Rename("mlp.down_proj", "mlp.c_proj"),
        Rule::Transpose(".attn."),
        Rule::Transpose(".mlp."),
        Rule::Rename("model.embed_tokens", "transformer.wte"),
        Rule::Rename("model.embed_positions", "transformer.wpe"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
        Rule::Rename("input_layernorm", "ln_1"),
        Rule::Rename("post_attention_layernorm", "ln_2"),
    ],
    prefixes: &[("transformer.", "")],
    ignored: super::BUFFERS,
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = super::read(config, "n_inner")?.with_learned_positions(config, 0)?;
    super::no_cross_attention(config)?;
    // Reordering the products and computing scores in float32 changes rounding in half precision alone.
    config.bool("reorder_and_upcast_attn")?;
    template.attention.bias = AttentionBias::qkv_o(true, true);
    super::scale_of_scores(config, &mut template)?;
    let by_depth = config.bool("scale_attn_by_inverse_layer_idx")?;
    template.build(|index, layer| {
        if by_depth {
            layer.attention.scale /= (index + 1) as f64;
        }
        Ok(())
    })
}
