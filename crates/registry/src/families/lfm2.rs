//! LFM2: gated short convolutions in most layers, attention in the others.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "lfm2",
    architectures: &["Lfm2ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Left from the training code; the class has no such keys.
    ignored_keys: &[
        "block_dim",
        "block_mlp_init_scale",
        "block_norm_eps",
        "block_out_init_scale",
        "block_use_swiglu",
        "block_use_xavier_init",
        "conv_dim",
        "conv_dim_out",
        "conv_use_xavier_init",
        "num_heads",
        "use_pos_enc",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(65_536)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(12_288)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(8)),
        ("max_position_embeddings", Int(128_000)),
        ("norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("conv_bias", Bool(false)),
        ("conv_L_cache", Int(3)),
        ("block_multiple_of", Int(256)),
        ("block_ffn_dim_multiplier", Float(1.0)),
        ("block_auto_adjust_ff_dim", Bool(true)),
        ("full_attn_idxs", Null),
        ("layer_types", Null),
    ],
    aliases: &[("tie_embedding", "tie_word_embeddings"), ("block_ff_dim", "intermediate_size")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.o_proj", "self_attn.out_proj"),
        Rule::Rename("self_attn.q_norm", "self_attn.q_layernorm"),
        Rule::Rename("self_attn.k_norm", "self_attn.k_layernorm"),
        Rule::Rename("mlp.gate_proj", "feed_forward.w1"),
        Rule::Rename("mlp.up_proj", "feed_forward.w3"),
        Rule::Rename("mlp.down_proj", "feed_forward.w2"),
        Rule::Rename("input_layernorm", "operator_norm"),
        Rule::Rename("post_attention_layernorm", "ffn_norm"),
        Rule::Rename("model.norm.", "model.embedding_norm."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 1_000_000.0, ..RopeDefaults::default() };
    let keys = Keys { norm_eps: "norm_eps", activation: None, ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?.with_rope(config, defaults, RopePairing::HalfSplit)?;
    template = template.with_qk_norm(QkNormExtent::Head);
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = adjusted_width(config, mlp.intermediate_size)?;
    }
    let conv = ShortConvSpec { kernel_size: config.usize("conv_L_cache")?, bias: config.bool("conv_bias")? };
    let attends = config.list_usize_or_null("full_attn_idxs")?;
    let default_type = |index: usize| {
        if attends.as_ref().is_none_or(|layers| layers.contains(&index)) { "full_attention" } else { "conv" }
    };
    let types = layer_types(config, template.num_hidden_layers, default_type)?;
    template.build_layers(|index, template| {
        let mixer = match types[index].as_str() {
            "full_attention" => Mixer::Attention(template.attention.clone()),
            "conv" => Mixer::ShortConv(conv.clone()),
            _ => return Err(config.unsupported("layer_types", "this family has full_attention and conv layers")),
        };
        Ok(template.layer(mixer, template.mlp.clone()))
    })
}

/// Two thirds of the width that the config gives, rounded up, if it says so (`Lfm2MLP` of transformers).
fn adjusted_width(config: &FamilyConfig<'_>, width: usize) -> Result<usize, RegistryError> {
    let multiple = config.usize("block_multiple_of")?;
    let factor = config.f64_or_null("block_ffn_dim_multiplier")?;
    if !config.bool("block_auto_adjust_ff_dim")? {
        return Ok(width);
    }
    let width = (2.0 * width as f64 / 3.0) as usize;
    let Some(factor) = factor else { return Ok(width) };
    let width = (factor * width as f64) as usize;
    width
        .checked_next_multiple_of(multiple)
        .ok_or_else(|| config.inconsistent("block_multiple_of is too large".to_owned()))
}
