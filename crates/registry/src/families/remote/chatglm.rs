//! ChatGLM3 and GLM-4-9B: one projection for queries, keys and values, one for gate and up, interleaved rotation of half of each head.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "chatglm",
    architectures: &["ChatGLMModel", "ChatGLMForConditionalGeneration"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: IGNORED,
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("kv_channels", Int(128)),
        ("max_position_embeddings", Int(2048)),
        ("layernorm_epsilon", Float(1e-05)),
        ("rmsnorm", Bool(true)),
        ("apply_residual_connection_post_layernorm", Bool(false)),
        ("post_layer_norm", Bool(true)),
        ("add_bias_linear", Bool(false)),
        ("add_qkv_bias", Bool(false)),
        ("multi_query_attention", Bool(false)),
        ("multi_query_group_num", Int(1)),
        ("rope_ratio", Int(1)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: &[
        ("padded_vocab_size", "vocab_size"),
        ("num_layers", "num_hidden_layers"),
        ("seq_length", "max_position_embeddings"),
        ("ffn_hidden_size", "intermediate_size"),
    ],
};

/// Precision and fused kernels.
const IGNORED: &[&str] = &["attention_softmax_in_fp32", "bias_dropout_fusion", "fp32_residual_connection"];

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("self_attention.query_key_value", PackOrder::Rows),
        Rule::Pack { parts: &["mlp.gate_proj", "mlp.up_proj"], into: "mlp.dense_h_to_4h", order: PackOrder::Rows },
        Rule::Rename("self_attn.o_proj", "self_attention.dense"),
        Rule::Rename("mlp.down_proj", "mlp.dense_4h_to_h"),
        Rule::Rename("model.embed_tokens", "transformer.embedding.word_embeddings"),
        Rule::Rename("model.layers.", "transformer.encoder.layers."),
        Rule::Rename("model.norm.", "transformer.encoder.final_layernorm."),
        Rule::Rename("lm_head.", "transformer.output_layer."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys {
        norm_eps: "layernorm_epsilon",
        activation: None,
        num_key_value_heads: Some("multi_query_group_num"),
        head_dim: Some("kv_channels"),
        ..Keys::LLAMA
    };
    let mut template = Template::read(config, &keys)?;
    // Without groups the projection has another order, by head.
    super::must_be(config, "multi_query_attention", true)?;
    super::must_be(config, "apply_residual_connection_post_layernorm", false)?;
    super::must_be(config, "post_layer_norm", true)?;
    super::must_be(config, "original_rope", true)?;
    super::must_be(config, "interleaved_qkv", false)?;
    super::must_be(config, "prefix_projection", false)?;
    if config.count_or_null("quantization_bit")?.is_some_and(|bits| bits != 0) {
        return Err(config.unsupported("quantization_bit", "its own quantised weights are not read"));
    }
    if config.count_or_null("pre_seq_len")?.is_some() {
        return Err(config.unsupported("pre_seq_len", "learned prefixes are not implemented"));
    }
    template.norm.kind =
        if config.bool("rmsnorm")? { NormKind::RmsProductInFloat32 } else { NormKind::LayerNorm { bias: true } };
    let bias = config.bool("add_bias_linear")?;
    template.attention.bias = AttentionBias::qkv_o(config.bool("add_qkv_bias")? || bias, bias);
    if let Some(mlp) = template.dense_mlp() {
        mlp.bias = bias;
    }
    template.attention.rope = Some(RopeSpec {
        theta: 10_000.0 * config.f64("rope_ratio")?,
        rotary_dim: template.attention.head_dim / 2,
        pairing: RopePairing::Interleaved,
        scaling: RopeScaling::Default,
    });
    template.build_uniform()
}
