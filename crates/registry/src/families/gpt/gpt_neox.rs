//! GPT-NeoX and Pythia: parallel branches with a norm each, partial rotation, fused projections by head.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gpt_neox",
    architectures: &["GPTNeoXForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The rotary embedding is read from `rotary_emb_base` and `rotary_pct`; all heads have keys and values of their own.
    ignored_keys: &["rope_theta", "partial_rotary_factor", "num_key_value_heads"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_432)),
        ("hidden_size", Int(6144)),
        ("intermediate_size", Int(24_576)),
        ("num_hidden_layers", Int(44)),
        ("num_attention_heads", Int(64)),
        ("hidden_act", Str("gelu")),
        ("max_position_embeddings", Int(2048)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("use_parallel_residual", Bool(true)),
        ("attention_bias", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("attention.query_key_value", PackOrder::PerHead),
        Rule::Rename("model.embed_tokens", "gpt_neox.embed_in"),
        Rule::Rename("model.layers.", "gpt_neox.layers."),
        Rule::Rename("model.norm.", "gpt_neox.final_layer_norm."),
        Rule::Rename("lm_head.", "embed_out."),
        Rule::Rename("self_attn.o_proj", "attention.dense"),
        Rule::Rename("mlp.up_proj", "mlp.dense_h_to_4h"),
        Rule::Rename("mlp.down_proj", "mlp.dense_4h_to_h"),
    ],
    prefixes: &[("embed_out.", "lm_head."), ("gpt_neox.", "")],
    ignored: &[
        ("*.attention.bias", "the causal mask, which is computed"),
        ("*.attention.masked_bias", "the mask's value, which is a constant"),
    ],
    ..Layout::LLAMA
};

const ROPE: RopeOptions = RopeOptions {
    defaults: RopeDefaults { theta: 10_000.0, partial_rotary_factor: 0.25 },
    type_aliases: &[],
    extra_keys: &[],
    theta_key: "rotary_emb_base",
    partial_rotary_factor_key: "rotary_pct",
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "layer_norm_eps", num_key_value_heads: None, head_dim: None, ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?;
    let rope = RopeByLayerType::read_with(config, &ROPE, template.attention.head_dim, RopePairing::HalfSplit)?;
    template.attention.rope = Some(rope.uniform()?.clone());
    template.norm.kind = NormKind::LayerNorm { bias: true };
    if config.bool("use_parallel_residual")? {
        template.layer = LayerSpec::parallel_split;
    }
    template.attention.bias = attention_bias(config)?;
    template.with_plain_mlp(true).build_uniform()
}
