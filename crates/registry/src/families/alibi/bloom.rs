//! BLOOM: a norm on embedded tokens, fused projections by head, ALiBi.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "bloom",
    architectures: &["BloomForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[
        // Left from Megatron; the class in transformers has no such keys, and an MLP of four times the width.
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "masked_softmax_fusion",
        "n_inner",
        "offset_alibi",
        "seq_length",
        "skip_bias_add",
        "skip_bias_add_qkv",
        // The order in which the parts of a product are added.
        "slow_but_exact",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(250_880)),
        ("hidden_size", Int(64)),
        ("num_hidden_layers", Int(2)),
        ("num_attention_heads", Int(8)),
        ("layer_norm_epsilon", Float(1e-05)),
        ("apply_residual_connection_post_layernorm", Bool(false)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[("n_embed", "hidden_size"), ("n_head", "num_attention_heads"), ("n_layer", "num_hidden_layers")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("self_attention.query_key_value", PackOrder::PerHead),
        Rule::Rename("self_attn.o_proj", "self_attention.dense"),
        Rule::Rename("mlp.up_proj", "mlp.dense_h_to_4h"),
        Rule::Rename("mlp.down_proj", "mlp.dense_4h_to_h"),
        Rule::Rename("model.embed_tokens.", "transformer.word_embeddings."),
        Rule::Rename("model.embed_norm.", "transformer.word_embeddings_layernorm."),
        Rule::Rename("model.layers.", "transformer.h."),
        Rule::Rename("model.norm.", "transformer.ln_f."),
    ],
    prefixes: &[("transformer.", "")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = super::read(config, None, None, None)?;
    if config.bool("apply_residual_connection_post_layernorm")? {
        let reason = "branches that are added to their normalised input are not implemented";
        return Err(config.unsupported("apply_residual_connection_post_layernorm", reason));
    }
    if let Some(mlp) = template.dense_mlp() {
        (mlp.activation, mlp.bias) = (Activation::GeluTanh, true);
    }
    template.embedding.norm = Some(template.norm);
    template.attention.bias = AttentionBias::qkv_o(true, true);
    template.attention.alibi = Some(Alibi { before_scale: false, in_bfloat16: false });
    template.build_uniform()
}
