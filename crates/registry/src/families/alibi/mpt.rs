//! MPT: norms without biases, bounded projections, ALiBi.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "mpt",
    architectures: &["MptForCausalLM", "MPTForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Keys of the class that it has no use of: positions are ALiBi whatever they say, the MLP is four times as wide, nothing has a
    // bias.
    ignored_keys: &[
        "attn_config.alibi",
        "attn_config.alibi_bias_max",
        "attn_config.attn_impl",
        "attn_config.attn_pdrop",
        "attn_config.attn_type",
        "attn_config.attn_uses_sequence_id",
        "attn_config.prefix_lm",
        "attn_config.qk_ln",
        // What every configuration class has.
        "attn_config._name_or_path",
        "attn_config.chunk_size_feed_forward",
        "attn_config.id2label",
        "attn_config.is_encoder_decoder",
        "attn_config.label2id",
        "attn_config.model_type",
        "attn_config.output_attentions",
        "attn_config.output_hidden_states",
        "attn_config.return_dict",
        "embedding_fraction",
        "emb_pdrop",
        "expansion_ratio",
        "init_config",
        "init_device",
        "learned_pos_emb",
        "logit_scale",
        "no_bias",
        "norm_type",
        "verbose",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(50_368)),
        ("hidden_size", Int(2048)),
        ("num_hidden_layers", Int(24)),
        ("num_attention_heads", Int(16)),
        ("max_seq_len", Int(2048)),
        ("layer_norm_epsilon", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
    ],
    aliases: &[("d_model", "hidden_size"), ("n_heads", "num_attention_heads"), ("n_layers", "num_hidden_layers")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        packed_qkv("attn.Wqkv", PackOrder::Rows),
        Rule::Rename("self_attn.o_proj", "attn.out_proj"),
        Rule::Rename("mlp.", "ffn."),
        Rule::Rename("input_layernorm", "norm_1"),
        Rule::Rename("post_attention_layernorm", "norm_2"),
        Rule::Rename("model.embed_tokens.", "transformer.wte."),
        Rule::Rename("model.layers.", "transformer.blocks."),
        Rule::Rename("model.norm.", "transformer.norm_f."),
    ],
    prefixes: &[("transformer.", "")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = super::read(config, None, None, Some("max_seq_len"))?;
    template.norm.kind = NormKind::LayerNorm { bias: false };
    let attention = &mut template.attention;
    attention.clip_qkv = config.f64_or_null("attn_config.clip_qkv")?.filter(|&bound| bound != 0.0);
    if let Some(scale) = config.f64_or_null("attn_config.softmax_scale")? {
        attention.scale = scale;
    }
    attention.alibi = Some(Alibi { before_scale: false, in_bfloat16: false });
    template.build_uniform()
}
