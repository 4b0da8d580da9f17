//! Phi-1 to Phi-2: one layer norm for both branches, partial rotation, biases everywhere.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "phi",
    architectures: &["PhiForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Every projection has a bias, whatever this says.
    ignored_keys: &["attention_bias"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(51_200)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(8192)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Null),
        ("hidden_act", Str("gelu_new")),
        ("max_position_embeddings", Int(2048)),
        ("layer_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("qk_layernorm", Bool(false)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "self_attn.dense"),
        Rule::Rename("self_attn.q_norm", "self_attn.q_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.k_layernorm"),
        Rule::Rename("mlp.up_proj", "mlp.fc1"),
        Rule::Rename("mlp.down_proj", "mlp.fc2"),
        Rule::Rename("model.norm.", "model.final_layernorm."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let keys = Keys { norm_eps: "layer_norm_eps", ..Keys::LLAMA };
    let defaults = RopeDefaults { partial_rotary_factor: 0.5, ..RopeDefaults::default() };
    let mut template = Template::read(config, &keys)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.layer = LayerSpec::parallel_shared;
    template.attention.bias = AttentionBias::qkv_o(true, true);
    template.head.bias = true;
    if config.bool("qk_layernorm")? {
        template = template.with_qk_norm(QkNormExtent::Head);
    }
    // The first conversions gave the width that rotates too.
    if let Some(rope) = &template.attention.rope {
        config.must_agree("rotary_dim", rope.rotary_dim, "partial_rotary_factor of a head")?;
    }
    template.with_plain_mlp(true).build_uniform()
}
