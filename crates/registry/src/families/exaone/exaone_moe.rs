//! K-EXAONE: EXAONE 4's attention before norms, DeepSeek-V3's mixture of experts.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "exaone_moe",
    architectures: &["ExaoneMoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The class has no such keys and computes what the published values say. `is_moe_layer` repeats `first_k_dense_replace`.
    ignored_keys: &["first_last_k_dense_replace", "is_moe_layer", "scoring_func", "topk_method"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(102_400)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(16_384)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(2048)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Null),
        ("sliding_window", Int(4096)),
        ("sliding_window_pattern", Int(4)),
        ("layer_types", Null),
        ("mlp_layer_types", Null),
        ("first_k_dense_replace", Int(1)),
        ("moe_intermediate_size", Int(1024)),
        ("num_experts", Int(64)),
        ("num_experts_per_tok", Int(8)),
        ("num_shared_experts", Int(1)),
        ("norm_topk_prob", Bool(true)),
        ("routed_scaling_factor", Float(2.5)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.e_score_correction_bias"),
    ],
    ignored: &[("mtp*", "layers that predict several tokens ahead")],
    ..DEEPSEEK_MOE_LAYOUT
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::llama(config)?.with_qk_norm(QkNormExtent::Head);
    let layers = template.num_hidden_layers;
    let window = config.usize("sliding_window")?;
    let pattern = super::SlidingPattern::read(config, true)?;
    let types = layer_types(config, layers, |index| pattern.layer_type(index))?;
    let moe = deepseek_moe_with(config, "num_experts", "num_shared_experts")?;
    let dense = config.count("first_k_dense_replace")?;
    let sparse = sparse_layers(config, layers, |index| index >= dense)?;
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = mask_of(config, &types[index], Some(window))?;
        if attention.mask == AttentionMask::Full {
            attention.rope = None;
        }
        if sparse[index] {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
