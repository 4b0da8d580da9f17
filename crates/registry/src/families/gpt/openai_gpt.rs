//! The first GPT: GPT-2 with norms on the stream after each branch.

use super::super::prelude::*;
use crate::template::activation;

pub static FAMILY: Family = Family {
    model_type: "openai-gpt",
    architectures: &["OpenAIGPTLMHeadModel"],
    defaults: &DEFAULTS,
    lower,
    // Left from the first conversions from TensorFlow.
    ignored_keys: &["n_special", "predict_special_tokens"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(40_478)),
        ("max_position_embeddings", Int(512)),
        ("hidden_size", Int(768)),
        ("num_hidden_layers", Int(12)),
        ("num_attention_heads", Int(12)),
        ("afn", Str("gelu")),
        ("layer_norm_epsilon", Float(1e-05)),
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
        Rule::Rename("model.embed_tokens", "transformer.tokens_embed"),
        Rule::Rename("model.embed_positions", "transformer.positions_embed"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("post_attention_layernorm", "ln_1"),
        Rule::Rename("post_feedforward_layernorm", "ln_2"),
    ],
    prefixes: &[("transformer.", "")],
    ignored: &[
        ("*h.*.attn.bias", "the causal mask, which is computed"),
        ("*position_ids", "the numbers from zero, which are counted"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys {
        norm_eps: "layer_norm_epsilon",
        activation: None,
        intermediate_size: "hidden_size",
        num_key_value_heads: None,
        head_dim: None,
        ..Keys::LLAMA
    };
    let mut template = Template::read(config, &keys)?.with_plain_mlp(true).with_learned_positions(config, 0)?;
    // Its names of activations are its own: `gelu` is the approximation (`ACT_FNS` of modeling_openai.py).
    let activation = match config.str("afn")? {
        "gelu" => Activation::GeluTanh,
        "relu" | "silu" | "swish" => activation(config, "afn")?,
        _ => return Err(config.unsupported("afn", "the class has gelu, relu, silu and swish")),
    };
    let width = template.hidden_size.saturating_mul(4);
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = width;
        mlp.activation = activation;
    }
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.layer = LayerSpec::post_add;
    template.attention.bias = AttentionBias::qkv_o(true, true);
    let mut spec = template.build_uniform()?;
    spec.backbone.final_norm = None;
    Ok(spec)
}
