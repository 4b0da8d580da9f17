//! Laguna: softplus gates on the output of attention, numbers of heads and rotations that differ by layer, sigmoid routing with a
//! correction.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "laguna",
    architectures: &["LagunaForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The class reads rope parameters by layer type alone.
    ignored_keys: &["rope_theta", "partial_rotary_factor"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(100_352)),
        ("hidden_size", Int(2048)),
        ("intermediate_size", Int(8192)),
        ("num_hidden_layers", Int(40)),
        ("num_attention_heads", Int(48)),
        ("num_key_value_heads", Int(8)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("sliding_window", Int(512)),
        ("layer_types", Null),
        ("gating", Bool(true)),
        ("num_attention_heads_per_layer", Null),
        ("mlp_layer_types", Null),
        ("moe_intermediate_size", Int(512)),
        ("shared_expert_intermediate_size", Int(512)),
        ("num_experts_per_tok", Int(8)),
        ("num_experts", Int(256)),
        ("moe_routed_scaling_factor", Float(1.0)),
        ("moe_apply_router_weight_on_input", Bool(false)),
        ("moe_router_logit_softcapping", Float(0.0)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("self_attn.gate_proj", "self_attn.g_proj"),
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.experts.e_score_correction_bias"),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?.with_qk_norm(QkNormExtent::Head);
    template.attention.bias = attention_bias(config)?;
    template.attention.output_gate = Some(output_gate(config)?);
    let layers = template.num_hidden_layers;
    let ropes = ropes(config, template.attention.head_dim)?;
    let window = Some(config.usize("sliding_window")?);
    let types = layer_types(config, layers, |_| "full_attention")?;
    let is_sparse = sparse_layers(config, layers, |index| index > 0)?;
    let heads = config.list_usize_or_null("num_attention_heads_per_layer")?;
    if let Some(heads) = &heads
        && heads.len() != layers
    {
        let problem = format!("num_attention_heads_per_layer has {} entries for {layers} layers", heads.len());
        return Err(config.inconsistent(problem));
    }
    let moe = moe(config)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        layer.attention.rope = ropes.of(&types[index])?;
        if let Some(heads) = &heads {
            layer.attention.num_attention_heads = heads[index];
        }
        if is_sparse[index] {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}

fn output_gate(config: &FamilyConfig<'_>) -> Result<OutputGate, RegistryError> {
    let gating = config.value("gating");
    let extent = match (gating.and_then(|value| value.as_bool()), gating.and_then(|value| value.as_str())) {
        (Some(true), _) | (_, Some("per-head")) => GateExtent::Head,
        (_, Some("per-element")) => GateExtent::Element,
        _ => return Err(config.unsupported("gating", "supported are true, per-head and per-element")),
    };
    Ok(OutputGate { extent, activation: GateActivation::Softplus })
}

/// The class has rope parameters for both layer types if a file has none, and whole heads rotate if it has some without the part.
fn ropes(config: &FamilyConfig<'_>, head_dim: usize) -> Result<RopeByLayerType, RegistryError> {
    let given = config.value("rope_parameters").is_some_and(|value| !value.is_null());
    let layer = |layer_type, theta, partial_rotary_factor| RopeLayer {
        layer_type,
        defaults: RopeDefaults { theta, partial_rotary_factor },
        theta_key: None,
        takes_rope_scaling: false,
    };
    let layers =
        [layer("full_attention", 500_000.0, if given { 1.0 } else { 0.5 }), layer("sliding_attention", 10_000.0, 1.0)];
    RopeByLayerType::by_layer_type(config, &layers, head_dim)
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    if config.bool("moe_apply_router_weight_on_input")? {
        let reason = "transformers does not compute it, so that there is nothing to compare with";
        return Err(config.unsupported("moe_apply_router_weight_on_input", reason));
    }
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let mut moe = softmax_moe(config, "num_experts", intermediate_size, true)?;
    moe.router = RouterSpec {
        score: RouterScore::Sigmoid,
        scale: Some(config.f64("moe_routed_scaling_factor")?),
        correction_bias: true,
        logit_softcap: Some(config.f64("moe_router_logit_softcapping")?).filter(|&cap| cap > 0.0),
        ..moe.router
    };
    let width = config.usize("shared_expert_intermediate_size")?;
    let mlp = MlpSpec { intermediate_size: width, ..moe.expert.clone() };
    moe.shared_expert = Some(SharedExpert { mlp, gate: false });
    Ok(moe)
}
