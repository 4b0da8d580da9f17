//! JetBrains Mellum 2: Qwen3-MoE with windows, and a rotary embedding for each type of layer.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "mellum",
    architectures: &["MellumForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the layer that predicts one token more.
    ignored_keys: &["mtp_layer_types", "mtp_mlp_layer_types", "num_mtp_layers"],
    layout: Layout { ignored: &[("mtp.*", "a layer that predicts one token more")], ..Layout::LLAMA },
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(98_304)),
        ("hidden_size", Int(2304)),
        ("intermediate_size", Int(7168)),
        ("num_hidden_layers", Int(28)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(4)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("sliding_window", Int(1024)),
        ("moe_intermediate_size", Int(896)),
        ("num_experts_per_tok", Int(8)),
        ("num_experts", Int(64)),
        ("norm_topk_prob", Bool(true)),
        ("layer_types", Null),
        ("mlp_layer_types", Null),
    ],
    aliases: &[("num_local_experts", "num_experts")],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?.with_qk_norm(QkNormExtent::Head);
    template.attention.bias = attention_bias(config)?;
    let (layers, head_dim) = (template.num_hidden_layers, template.attention.head_dim);
    let rope = if config.value("rope_parameters").is_none_or(serde_json::Value::is_null) {
        let thetas = LayerTypeThetas { full: 500_000.0, sliding: 10_000.0, sliding_key: None };
        RopeByLayerType::full_and_sliding(config, &thetas, head_dim)?
    } else {
        RopeByLayerType::read_whole(config, &RopeOptions::default(), head_dim, RopePairing::HalfSplit)?
    };
    let window = config.usize_or_null("sliding_window")?;
    let types = layer_types(config, layers, |_| "full_attention")?;
    let moe =
        softmax_moe(config, "num_experts", config.usize("moe_intermediate_size")?, config.bool("norm_topk_prob")?)?;
    let sparse = sparse_layers(config, layers, |_| true)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        layer.attention.rope = rope.of(&types[index])?;
        if sparse[index] {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
