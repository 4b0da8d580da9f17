//! gpt-oss: sinks, windows on every second layer, experts with biases behind a bounded gate, which are stored transposed and interleaved.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "gpt_oss",
    architectures: &["GptOssForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // The class has an activation of its own, whatever `hidden_act` says; the length of the pre-training is in the rope parameters too.
    ignored_keys: &["hidden_act", "initial_context_length"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(201_088)),
        ("hidden_size", Int(2880)),
        ("intermediate_size", Int(2880)),
        ("num_hidden_layers", Int(36)),
        ("num_attention_heads", Int(64)),
        ("num_key_value_heads", Int(8)),
        ("head_dim", Int(64)),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(true)),
        ("sliding_window", Int(128)),
        ("layer_types", Null),
        ("num_local_experts", Int(128)),
        ("num_experts_per_tok", Int(4)),
        ("swiglu_alpha", Float(1.702)),
        ("swiglu_limit", Float(7.0)),
    ],
    aliases: &[("num_experts", "num_local_experts")],
};

const RULES: &[Rule] = &[
    Rule::Pack {
        parts: &["mlp.experts.*.gate_proj", "mlp.experts.*.up_proj"],
        into: "mlp.experts.*.gate_up_proj",
        order: PackOrder::Interleaved,
    },
    Rule::Transpose(".experts."),
    STACKED_EXPERTS,
    Rule::Rename("mlp.gate.", "mlp.router."),
];

const LAYOUT: Layout = Layout { rules: RULES, module_rules: RULES, ..Layout::LLAMA };

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys { activation: None, ..Keys::LLAMA })?;
    template.norm.kind = NormKind::RmsProductInFloat32;
    template.attention.bias = attention_bias(config)?;
    template.attention.sinks = true;
    template.attention.rope = Some(rope(config, template.attention.head_dim)?);
    template.mlp = FeedForward::Moe(moe(config)?);
    let window = config.usize_or_null("sliding_window")?;
    let every_second = |index: usize| if index.is_multiple_of(2) { "sliding_attention" } else { "full_attention" };
    let types = layer_types(config, template.num_hidden_layers, every_second)?;
    template.build(|index, layer| {
        layer.attention.mask = mask_of(config, &types[index], window)?;
        Ok(())
    })
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let num_experts_per_tok = config.usize("num_experts_per_tok")?;
    config.must_agree("experts_per_token", num_experts_per_tok, "num_experts_per_tok")?;
    // `gate * sigmoid(alpha * gate)`
    let activation = match config.f64("swiglu_alpha")? {
        1.702 => Activation::QuickGelu,
        1.0 => Activation::Silu,
        _ => return Err(config.unsupported("swiglu_alpha", "supported are 1.702 and 1")),
    };
    let gating = Gating { limit: Some(config.f64("swiglu_limit")?), up_offset: 1.0 };
    let expert = MlpSpec::new(config.usize("intermediate_size")?, activation);
    Ok(MoeSpec {
        num_experts: config.usize("num_local_experts")?,
        num_experts_per_tok,
        expert: MlpSpec { bias: true, gating, ..expert },
        router: RouterSpec { bias: true, ..RouterSpec::new(RouterScore::TopkSoftmax) },
        shared_expert: None,
    })
}

/// The config's rope parameters; without any, the class has YaRN.
fn rope(config: &FamilyConfig<'_>, head_dim: usize) -> Result<RopeSpec, RegistryError> {
    const THETA: f64 = 150_000.0;
    let defaults = RopeDefaults { theta: THETA, ..RopeDefaults::default() };
    let rope = RopeByLayerType::read(config, defaults, head_dim, RopePairing::HalfSplit)?;
    let is_given = |key: &str| config.value(key).is_some_and(|value| !value.is_null());
    let mut rope = rope.uniform()?.clone();
    if !is_given("rope_parameters") && !is_given("rope_scaling") {
        let factor = 32.0_f64;
        rope.scaling = RopeScaling::Yarn(YarnRope {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position_embeddings: 4096,
            attention_factor: 0.1 * factor.ln() + 1.0,
            truncate: false,
        });
    }
    Ok(rope)
}
