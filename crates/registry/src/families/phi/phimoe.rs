//! Phi-3.5-MoE: Phi's layer norms and biases, two experts by SparseMixer, LongRoPE with a factor on the angles' cosines and sines for each
//! of its two ranges.

use super::super::prelude::*;
use automodel_config::ModelRope;

pub static FAMILY: Family = Family {
    model_type: "phimoe",
    architectures: &["PhimoeForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // A token is sent to two experts, whatever the key says; noise is of training.
    ignored_keys: &["input_jitter_noise", "num_experts_per_tok", "original_max_position_embeddings"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(32_064)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(6400)),
        ("num_hidden_layers", Int(32)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("sliding_window", Null),
        ("num_local_experts", Int(16)),
        ("router_jitter_noise", Float(0.01)),
        ("attention_bias", Bool(false)),
        ("lm_head_bias", Bool(false)),
    ],
    aliases: &[],
};

const LAYOUT: Layout = Layout {
    rules: &[
        Rule::Rename("mlp.gate.", "block_sparse_moe.gate."),
        Rule::Rename("mlp.experts.", "block_sparse_moe.experts."),
        Rule::Rename(".gate_proj.", ".w1."),
        Rule::Rename(".up_proj.", ".w3."),
        Rule::Rename(".down_proj.", ".w2."),
    ],
    module_rules: &[PACKED_EXPERTS, STACKED_EXPERTS, Rule::Rename("mlp.gate.", "mlp.router.")],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?;
    template.norm.kind = NormKind::LayerNorm { bias: true };
    template.attention.bias = attention_bias(config)?;
    template.attention.mask = uniform_window(config)?;
    template.attention.rope = Some(rope(config, template.attention.head_dim)?);
    template.head.bias = config.bool("lm_head_bias")?;
    let activation = crate::template::activation(config, "hidden_act")?;
    template.mlp = FeedForward::Moe(MoeSpec {
        num_experts: config.usize("num_local_experts")?,
        num_experts_per_tok: 2,
        expert: MlpSpec::new(config.usize("intermediate_size")?, activation),
        router: RouterSpec::new(RouterScore::SoftmaxNearBest { distance: 2.0 * config.f64("router_jitter_noise")? }),
        shared_expert: None,
    });
    template.build_uniform()
}

const SHORT: &str = "short_mscale";
const LONG: &str = "long_mscale";

/// LongRoPE with its short divisors at any length, because the class asks for frequencies without a length, and a factor that follows it.
fn rope(config: &FamilyConfig<'_>, head_dim: usize) -> Result<RopeSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 1_000_000.0, ..RopeDefaults::default() };
    let options = RopeOptions { extra_keys: &[SHORT, LONG], ..RopeOptions::from(defaults) };
    let rope = RopeByLayerType::read_whole(config, &options, head_dim, RopePairing::HalfSplit)?;
    let mut rope = rope.uniform()?.clone();
    let ModelRope::Uniform(parameters) = config.rope_parameters_with(&options)? else { return Ok(rope) };
    match &mut rope.scaling {
        RopeScaling::Default => Ok(rope),
        RopeScaling::LongRope(scaling) => {
            let factor = |key: &str| {
                let given = parameters.extra.get(key).and_then(serde_json::Value::as_f64);
                given.ok_or_else(|| config.inconsistent(format!("the rope parameters have no number {key}: give it")))
            };
            scaling.attention_factor = factor(SHORT)?;
            scaling.long_attention_factor = Some(factor(LONG)?);
            scaling.long_factor.clone_from(&scaling.short_factor);
            // As in Phi-3 (`prepare_inputs_for_generation`, modeling_phimoe.py).
            scaling.cache_valid_to = Some(scaling.original_max_position_embeddings);
            Ok(rope)
        }
        _ => Err(config.unsupported("rope_scaling", "supported are default and longrope")),
    }
}
