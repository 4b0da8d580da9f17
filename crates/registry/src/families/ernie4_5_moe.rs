//! ERNIE 4.5 with routed experts: a softmax, a correction bias for the choice, shared experts.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "ernie4_5_moe",
    architectures: &["Ernie4_5_MoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the implementation in Paddle; the class has no such keys.
    ignored_keys: &["moe_capacity", "moe_gate", "moe_use_aux_free", "use_rmsnorm"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(103_424)),
        ("hidden_size", Int(2560)),
        ("intermediate_size", Int(12_288)),
        ("num_hidden_layers", Int(28)),
        ("num_attention_heads", Int(20)),
        ("num_key_value_heads", Int(4)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(true)),
        ("use_bias", Bool(false)),
        ("moe_intermediate_size", Int(1536)),
        ("moe_k", Int(6)),
        ("moe_num_experts", Int(64)),
        ("moe_num_shared_experts", Int(2)),
        ("moe_layer_start_index", Int(1)),
        ("moe_layer_end_index", Int(-1)),
        ("moe_layer_interval", Int(1)),
        ("moe_norm_min", Float(1e-12)),
    ],
    aliases: &[("num_experts", "moe_num_experts"), ("num_experts_per_tok", "moe_k")],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.moe_statics.e_score_correction_bias"),
        Rule::LeadingAxis("mlp.moe_statics.e_score_correction_bias"),
    ],
    module_rules: &[
        Rule::Rename("mlp.shared_expert.", "mlp.shared_experts."),
        Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.gate.moe_statics.e_score_correction_bias"),
        Rule::LeadingAxis("mlp.gate.moe_statics.e_score_correction_bias"),
        PACKED_EXPERTS,
        STACKED_EXPERTS,
    ],
    ignored: &[("*mtp*", "layers that predict several tokens ahead")],
    keep_float32: &["mlp.gate.weight", "mlp.gate.e_score_correction_bias"],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 500_000.0, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys::LLAMA)?.with_rope(config, defaults, RopePairing::Interleaved)?;
    let bias = config.bool("use_bias")?;
    template.attention.bias = AttentionBias::qkv_o(bias, bias);
    template.head.bias = bias;
    let moe = moe(config, bias)?;
    let sparse = SparseLayers::read(config)?;
    template.with_mlp_bias(config, "use_bias")?.build(|index, layer| {
        if sparse.contains(index) {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}

/// Experts without biases; `bias` is for the shared ones.
fn moe(config: &FamilyConfig<'_>, bias: bool) -> Result<MoeSpec, RegistryError> {
    let activation = crate::template::activation(config, "hidden_act")?;
    let expert = MlpSpec::new(config.usize("moe_intermediate_size")?, activation);
    let shared = config.count("moe_num_shared_experts")?;
    let biased = MlpSpec { bias, ..expert.clone() };
    Ok(MoeSpec {
        num_experts: config.usize("moe_num_experts")?,
        num_experts_per_tok: config.usize("moe_k")?,
        expert,
        router: RouterSpec {
            normalize: Normalize::SumAtLeast(config.f64("moe_norm_min")?),
            correction_bias: true,
            logits_in_float32: true,
            ..RouterSpec::new(RouterScore::Softmax)
        },
        shared_expert: (shared > 0).then(|| shared_experts(config, &biased, shared)).transpose()?,
    })
}

/// Every `interval`-th layer from `start` to `end`.
struct SparseLayers {
    start: usize,
    /// `None`: the last layer.
    end: Option<usize>,
    interval: usize,
}

impl SparseLayers {
    fn read(config: &FamilyConfig<'_>) -> Result<Self, RegistryError> {
        let end = config.value("moe_layer_end_index").and_then(|value| value.as_i64());
        Ok(Self {
            start: config.count("moe_layer_start_index")?,
            end: (end != Some(-1)).then(|| config.count("moe_layer_end_index")).transpose()?,
            interval: config.usize("moe_layer_interval")?,
        })
    }

    fn contains(&self, layer: usize) -> bool {
        let ended = self.end.is_some_and(|end| layer > end);
        layer >= self.start && !ended && (layer + 1).is_multiple_of(self.interval)
    }
}
