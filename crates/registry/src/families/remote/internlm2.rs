//! InternLM2: Llama with queries, keys and values in one projection, by group of heads.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "internlm2",
    architectures: &["InternLM2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("num_key_value_heads", Null),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("bias", Bool(true)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("attention.wqkv", PackOrder::PerGroup),
        Rule::Rename("self_attn.o_proj", "attention.wo"),
        Rule::Rename("mlp.gate_proj", "feed_forward.w1"),
        Rule::Rename("mlp.up_proj", "feed_forward.w3"),
        Rule::Rename("mlp.down_proj", "feed_forward.w2"),
        Rule::Rename("input_layernorm", "attention_norm"),
        Rule::Rename("post_attention_layernorm", "ffn_norm"),
        Rule::Rename("model.embed_tokens", "model.tok_embeddings"),
        Rule::Rename("lm_head.", "output."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys { head_dim: None, ..Keys::LLAMA })?.with_older_rope(config)?;
    let bias = config.bool("bias")?;
    template.attention.bias = AttentionBias::qkv_o(bias, bias);
    template.build_uniform()
}
