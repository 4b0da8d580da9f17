//! Tencent Hy3: Qwen3's attention, experts scored by sigmoids with a correction, a shared expert.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "hy_v3",
    architectures: &["HYV3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Whether the shared expert is added in float32: a matter of rounding. The others are of the training code; the class has no such
    // keys and computes what the published values say.
    ignored_keys: &[
        "enable_attention_fp32_softmax",
        "enable_lm_head_fp32",
        "enable_moe_fp32_combine",
        "expert_hidden_dim",
        "moe_router_enable_expert_bias",
        "moe_router_use_sigmoid",
        "qk_norm",
        "route_norm",
    ],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(120_832)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(13_312)),
        ("num_hidden_layers", Int(80)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Int(8)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("mlp_bias", Bool(false)),
        ("num_experts", Int(192)),
        ("num_experts_per_tok", Int(8)),
        ("num_shared_experts", Int(1)),
        ("moe_intermediate_size", Int(1536)),
        ("router_scaling_factor", Float(2.826)),
        ("mlp_layer_types", Null),
    ],
    aliases: &[("num_local_experts", "num_experts")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.expert_bias"),
        Rule::Rename("mlp.gate.", "mlp.router.gate."),
        Rule::Rename("mlp.shared_expert.", "mlp.shared_mlp."),
    ],
    module_rules: &[
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.e_score_correction_bias"),
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        PACKED_EXPERTS,
        STACKED_EXPERTS,
    ],
    ignored: &[("model.layers.80.*", "a layer that predicts one token more")],
    keep_float32: &["mlp.gate.e_score_correction_bias"],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let rope = RopeDefaults { theta: 11_158_840.0, ..RopeDefaults::default() };
    let template = Template::read(config, &Keys::LLAMA)?.with_rope(config, rope, RopePairing::HalfSplit)?;
    let mut template = template.with_qk_norm(QkNormExtent::Head).with_mlp_bias(config, "mlp_bias")?;
    template.attention.bias = attention_bias(config)?;
    // The class has one dense layer, or what `mlp_layer_types` says.
    config.must_agree("first_k_dense_replace", 1, "the class")?;
    let activation = crate::template::activation(config, "hidden_act")?;
    let expert = MlpSpec::new(config.usize("moe_intermediate_size")?, activation);
    let biased = MlpSpec { bias: config.bool("mlp_bias")?, ..expert.clone() };
    let moe = MoeSpec {
        num_experts: config.usize("num_experts")?,
        num_experts_per_tok: config.usize("num_experts_per_tok")?,
        shared_expert: Some(shared_experts(config, &biased, config.usize("num_shared_experts")?)?),
        router: RouterSpec {
            normalize: Normalize::SumPlus(1e-20),
            scale: Some(config.f64("router_scaling_factor")?),
            correction_bias: true,
            logits_in_float32: true,
            ..RouterSpec::new(RouterScore::Sigmoid)
        },
        expert,
    };
    let sparse = sparse_layers(config, template.num_hidden_layers, |index| index > 0)?;
    template.build(|index, layer| {
        if sparse[index] {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}
