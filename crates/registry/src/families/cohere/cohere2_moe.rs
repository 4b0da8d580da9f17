//! Command A+: Command R7B's layers with routed experts, the first of them dense.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "cohere2_moe",
    architectures: &["Cohere2MoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout { keep_float32: &[], ..DEEPSEEK_MOE_LAYOUT },
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(256_000)),
        ("hidden_size", Int(8192)),
        ("intermediate_size", Int(22_528)),
        ("num_hidden_layers", Int(40)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Null),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(8192)),
        ("layer_norm_eps", Float(1e-05)),
        ("rms_norm_eps", Null),
        ("tie_word_embeddings", Bool(true)),
        ("logit_scale", Float(0.0625)),
        ("attention_bias", Bool(false)),
        ("sliding_window", Int(4096)),
        ("sliding_window_pattern", Int(4)),
        ("layer_types", Null),
        ("mlp_layer_types", Null),
        ("prefix_dense_intermediate_size", Null),
        ("prefix_dense_sliding_window_pattern", Int(1)),
        ("num_experts_per_tok", Int(2)),
        ("num_experts", Int(8)),
        ("num_shared_experts", Int(0)),
        ("shared_expert_combination_strategy", Str("average")),
        ("expert_selection_fn", Str("softmax")),
        ("norm_topk_prob", Bool(true)),
    ],
    aliases: &[],
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let rms_eps = config.f64_or_null("rms_norm_eps")?;
    let eps = rms_eps.map_or_else(|| config.f64("layer_norm_eps"), Ok)?;
    let mut template = Template::read_with_eps(config, &Keys::LLAMA, eps)?
        .with_cohere_head_and_norms(config)?
        .with_rope(config, RopeDefaults::default(), RopePairing::Interleaved)?;
    if rms_eps.is_some() {
        template.norm.kind = NormKind::Rms;
    }
    let layers = template.num_hidden_layers;
    let prefix = config.count_or_null("first_k_dense_replace")?.unwrap_or(0);
    let window = config.usize_or_null("sliding_window")?;
    let patterns = [config.usize("prefix_dense_sliding_window_pattern")?, config.usize("sliding_window_pattern")?];
    let types = layer_types(config, layers, |index| {
        let (place, pattern) = if index < prefix { (index, patterns[0]) } else { (index - prefix, patterns[1]) };
        if (place + 1).is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" }
    })?;
    let sparse = sparse_layers(config, layers, |index| index >= prefix)?;
    let (moe, scale) = moe(config)?;
    let width = config.usize_or_null("prefix_dense_intermediate_size")?;
    if let Some(mlp) = template.dense_mlp() {
        mlp.intermediate_size = width.unwrap_or(mlp.intermediate_size);
    }
    template.build_layers(|index, template| {
        let mut attention = template.attention.clone();
        attention.mask = mask_of(config, &types[index], window)?;
        let always_rotates = !sparse[index] && patterns[0] == 1;
        if attention.mask == AttentionMask::Full && !always_rotates {
            attention.rope = None;
        }
        if !sparse[index] {
            return Ok(template.layer(Mixer::Attention(attention), template.mlp.clone()));
        }
        let mut layer = template.layer(Mixer::Attention(attention), FeedForward::Moe(moe.clone()));
        layer.branches[1].scale = scale;
        Ok(layer)
    })
}

/// The mixture and the factor on its result: a half where routed and shared experts are averaged.
fn moe(config: &FamilyConfig<'_>) -> Result<(MoeSpec, Option<f64>), RegistryError> {
    let mut moe = softmax_moe(config, "num_experts", config.usize("intermediate_size")?, false)?;
    let normalize = config.bool("norm_topk_prob")?;
    moe.router = match config.str("expert_selection_fn")? {
        "softmax" => RouterSpec::new(RouterScore::TopkSoftmax),
        "sigmoid" => {
            RouterSpec { normalize: Normalize::by_sum(normalize), ..RouterSpec::new(RouterScore::TopkSigmoid) }
        }
        _ => return Err(config.unsupported("expert_selection_fn", "supported are softmax and sigmoid")),
    };
    let averages = match config.str("shared_expert_combination_strategy")? {
        "average" => true,
        "sum" => false,
        _ => return Err(config.unsupported("shared_expert_combination_strategy", "supported are average and sum")),
    };
    let shared = config.count("num_shared_experts")?;
    if shared > 0 {
        moe.shared_expert = Some(shared_experts(config, &moe.expert, shared)?);
    }
    let scale = (averages && moe.shared_expert.is_some()).then_some(0.5);
    Ok((moe, scale))
}
