//! StarCoder 2: layer norms, biases everywhere, a plain MLP.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "starcoder2",
    architectures: &["Starcoder2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[
        "mlp_type",
        "norm_type",
        "hidden_activation",
        // Left from GPT-BigCode, whose configs the published file was written after.
        "activation_function",
        "attention_softmax_in_fp32",
        "layer_norm_epsilon",
        "scale_attention_softmax_in_fp32",
        "scale_attn_weights",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(49_152)),
        ("hidden_size", Int(3072)),
        ("intermediate_size", Int(12_288)),
        ("num_hidden_layers", Int(30)),
        ("num_attention_heads", Int(24)),
        ("num_key_value_heads", Int(2)),
        ("hidden_act", Str("gelu_pytorch_tanh")),
        ("max_position_embeddings", Int(4096)),
        ("norm_epsilon", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("sliding_window", Null),
        ("use_bias", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[Rule::Rename("mlp.up_proj", "mlp.c_fc"), Rule::Rename("mlp.down_proj", "mlp.c_proj")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "norm_epsilon", ..Keys::LLAMA };
    let mut template =
        Template::read(config, &keys)?.with_rope(config, RopeDefaults::default(), RopePairing::HalfSplit)?;
    let bias = config.bool("use_bias")?;
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.attention.bias = AttentionBias::qkv_o(bias, bias);
    template.attention.mask = uniform_window(config)?;
    template.with_plain_mlp(bias).build_uniform()
}
