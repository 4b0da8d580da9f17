//! AFMoE (Trinity): norms before and after each branch, gates on the output of attention, windows with rotation on three of four layers,
//! sigmoid routing with a correction.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "afmoe",
    architectures: &["AfmoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[
        // Of the code that the first checkpoints came with; the class has no such keys, and routes as they say.
        "score_func",
        "route_norm",
        "n_group",
        "topk_group",
        "load_balance_coeff",
        "num_expert_groups",
        "num_limited_groups",
        "use_grouped_mm",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(200_192)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(6144)),
        ("moe_intermediate_size", Int(1408)),
        ("num_hidden_layers", Int(32)),
        ("num_dense_layers", Int(1)),
        ("num_attention_heads", Int(16)),
        ("num_key_value_heads", Null),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(16_384)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("num_experts", Int(64)),
        ("num_experts_per_tok", Int(6)),
        ("num_shared_experts", Int(2)),
        ("route_scale", Float(1.0)),
        ("global_attn_every_n_layers", Int(4)),
        ("sliding_window", Int(1024)),
        ("layer_types", Null),
        ("mup_enabled", Bool(false)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("pre_feedforward_layernorm", "pre_mlp_layernorm"),
        Rule::Rename("post_feedforward_layernorm", "post_mlp_layernorm"),
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.expert_bias"),
        Rule::Rename("mlp.gate.", "mlp.router.gate."),
    ],
    keep_float32: &["mlp.gate.e_score_correction_bias"],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::llama(config)?;
    template.norm.kind = NormKind::RmsProductInFloat32;
    template.layer = LayerSpec::sandwich;
    template = template.with_qk_norm(QkNormExtent::Head);
    if config.bool("mup_enabled")? {
        template.embedding.scale = Some((template.hidden_size as f64).sqrt());
    }
    template.attention.bias = attention_bias(config)?;
    template.attention.output_gate =
        Some(OutputGate { extent: GateExtent::Element, activation: GateActivation::Sigmoid });
    let moe = moe(config)?;
    let dense = config.count("num_dense_layers")?;
    let window = config.usize_or_null("sliding_window")?;
    let every = config.usize("global_attn_every_n_layers")?;
    let default_type =
        |index: usize| if (index + 1).is_multiple_of(every) { "full_attention" } else { "sliding_attention" };
    let types = layer_types(config, template.num_hidden_layers, default_type)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        if layer.attention.mask == AttentionMask::Full {
            layer.attention.rope = None;
        }
        if index >= dense {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let mut moe = softmax_moe(config, "num_experts", intermediate_size, false)?;
    moe.router = RouterSpec {
        normalize: Normalize::SumPlus(1e-20),
        scale: Some(config.f64("route_scale")?),
        correction_bias: true,
        ..RouterSpec::new(RouterScore::Sigmoid)
    };
    moe.shared_expert = Some(shared_experts(config, &moe.expert, config.usize("num_shared_experts")?)?);
    Ok(moe)
}
