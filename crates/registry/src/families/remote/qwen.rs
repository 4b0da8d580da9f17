//! The first Qwen: one projection for queries, keys and values, a gate by GPT-2's names.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "qwen",
    architectures: &["QWenLMHeadModel"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: IGNORED,
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("kv_channels", Int(128)),
        ("layer_norm_epsilon", Float(1e-06)),
        ("max_position_embeddings", Int(8192)),
        ("rotary_emb_base", Int(10_000)),
        ("rotary_pct", Float(1.0)),
        ("use_dynamic_ntk", Bool(true)),
        ("use_logn_attn", Bool(true)),
        ("no_bias", Bool(true)),
        ("scale_attn_weights", Bool(true)),
        ("tie_word_embeddings", Bool(false)),
    ],
    aliases: &[],
};

/// Dropout, precision and kernels; `seq_length` counts for dynamic NTK and logn attention alone.
const IGNORED: &[&str] = &[
    "attn_dropout_prob",
    "bf16",
    "emb_dropout_prob",
    "fp16",
    "fp32",
    "onnx_safe",
    "seq_length",
    "softmax_in_fp32",
    "use_cache_kernel",
    "use_cache_quantization",
];

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("attn.c_attn", PackOrder::Rows),
        Rule::Rename("self_attn.o_proj", "attn.c_proj"),
        Rule::Rename("mlp.gate_proj", "mlp.w2"),
        Rule::Rename("mlp.up_proj", "mlp.w1"),
        Rule::Rename("mlp.down_proj", "mlp.c_proj"),
        Rule::Rename("input_layernorm", "ln_1"),
        Rule::Rename("post_attention_layernorm", "ln_2"),
        Rule::Rename("model.embed_tokens", "transformer.wte"),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
    ],
    prefixes: &[("transformer.", "")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys {
        norm_eps: "layer_norm_epsilon",
        activation: None,
        num_key_value_heads: None,
        head_dim: Some("kv_channels"),
        ..Keys::LLAMA
    };
    let mut template = Template::read(config, &keys)?;
    for key in ["use_dynamic_ntk", "use_logn_attn"] {
        super::must_be(config, key, false)?;
    }
    super::must_be(config, "scale_attn_weights", true)?;
    if config.f64("rotary_pct")? != 1.0 {
        return Err(config.unsupported("rotary_pct", "only whole heads rotate in the published checkpoints"));
    }
    template.attention.rope = Some(RopeSpec {
        theta: config.f64("rotary_emb_base")?,
        rotary_dim: template.attention.head_dim,
        pairing: RopePairing::HalfSplit,
        scaling: RopeScaling::Default,
    });
    let bias = !config.bool("no_bias")?;
    template.attention.bias = AttentionBias::qkv_o(true, bias);
    // The config counts gate and up projection as one.
    let width = config.usize("intermediate_size")?;
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = width / 2;
        mlp.bias = bias;
    }
    template.build_uniform()
}
