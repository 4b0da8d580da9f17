//! Persimmon: fused projections by head, layer norms on heads of queries and keys, partial rotation.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "persimmon",
    architectures: &["PersimmonForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // All heads have keys and values of their own.
    ignored_keys: &["num_key_value_heads"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(262_144)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(16_384)),
        ("num_hidden_layers", Int(36)),
        ("num_attention_heads", Int(64)),
        ("hidden_act", Str("relu2")),
        ("max_position_embeddings", Int(16_384)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("qk_layernorm", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("self_attn.query_key_value", PackOrder::PerHead),
        Rule::Rename("self_attn.o_proj", "self_attn.dense"),
        Rule::Rename("self_attn.q_norm", "self_attn.q_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.k_layernorm"),
        Rule::Rename("mlp.up_proj", "mlp.dense_h_to_4h"),
        Rule::Rename("mlp.down_proj", "mlp.dense_4h_to_h"),
        Rule::Rename("model.norm.", "model.final_layernorm."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "layer_norm_eps", num_key_value_heads: None, head_dim: None, ..Keys::LLAMA };
    let defaults = RopeDefaults { partial_rotary_factor: 0.5, ..RopeDefaults::default() };
    let mut template = Template::read(config, &keys)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.attention.bias = AttentionBias::qkv_o(true, true);
    if config.bool("qk_layernorm")? {
        template = template.with_qk_norm(QkNormExtent::Head);
    }
    template.with_plain_mlp(true).build_uniform()
}
