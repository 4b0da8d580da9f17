//! Mistral 4: DeepSeek-V3's attention with queries that grow with the position, and experts chosen by a softmax out of groups.

use super::super::deepseek::{LATENT_KEYS, LATENT_ROPE, build_latent, latent_attention_with, pairing};
use super::super::prelude::*;
use serde_json::Value;

pub static FAMILY: Family = Family {
    model_type: "mistral4",
    architectures: &["Mistral4ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(131_072)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(12_288)),
        ("moe_intermediate_size", Int(2048)),
        ("num_hidden_layers", Int(36)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(32)),
        ("n_shared_experts", Int(1)),
        ("n_routed_experts", Int(128)),
        ("routed_scaling_factor", Float(1.0)),
        ("kv_lora_rank", Int(256)),
        ("q_lora_rank", Int(1024)),
        ("qk_rope_head_dim", Int(64)),
        ("v_head_dim", Int(128)),
        ("qk_nope_head_dim", Int(64)),
        ("n_group", Int(1)),
        ("topk_group", Int(1)),
        ("num_experts_per_tok", Int(4)),
        ("first_k_dense_replace", Int(0)),
        ("norm_topk_prob", Bool(true)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(1_048_576)),
        ("rms_norm_eps", Float(1e-06)),
        ("tie_word_embeddings", Bool(false)),
        ("rope_interleave", Bool(true)),
        ("attention_bias", Bool(false)),
    ],
    aliases: &[("num_local_experts", "n_routed_experts")],
};

/// transformers has no conversion for this family: files have what the modules have.
const LAYOUT: Layout = Layout {
    rules: &[PACKED_EXPERTS, STACKED_EXPERTS, Rule::Rename("mlp.shared_expert.", "mlp.shared_experts.")],
    module_rules: &[],
    ..Layout::LLAMA
};

/// Key of the rope parameters with the factor of [`QueryTemperature`].
const BETA: &str = "llama_4_scaling_beta";

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let template = Template::read(config, &LATENT_KEYS)?;
    let width = config.usize("qk_rope_head_dim")?.saturating_add(config.usize("qk_nope_head_dim")?);
    config.must_agree("head_dim", width, "qk_nope_head_dim and qk_rope_head_dim")?;
    let (rope, beta) = positions(config, width)?;
    let RopeScaling::Yarn(YarnRope { original_max_position_embeddings: original, factor, .. }) = rope.scaling else {
        let reason = "the queries' growth follows `original_max_position_embeddings`, which yarn has";
        return Err(config.unsupported("rope_parameters", reason));
    };
    let mut attention = latent_attention_with(config, rope, config.usize("v_head_dim")?)?;
    if !gives_rope_parameters(config) {
        // `mscale_all_dim` is 1 there.
        attention.scale *= (0.1 * factor.ln() + 1.0).powi(2);
    }
    attention.query_temperature = Some(QueryTemperature { first: 0, scale: beta, floor_scale: original as f64 });
    let dense = config.count("first_k_dense_replace")?;
    build_latent(template, &attention, &moe(config)?, |index| index < dense)
}

/// The rotary embedding of a part of heads of `width` elements, and the factor of the queries' growth; the class has both for configs
/// without rope parameters.
fn positions(config: &FamilyConfig<'_>, width: usize) -> Result<(RopeSpec, f64), RegistryError> {
    let (turned, pairing) = (config.usize("qk_rope_head_dim")?, pairing(config)?);
    if !gives_rope_parameters(config) {
        let yarn = YarnRope {
            factor: 128.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position_embeddings: 8192,
            attention_factor: 1.0,
            truncate: true,
        };
        let scaling = RopeScaling::Yarn(yarn);
        return Ok((RopeSpec { theta: 10_000.0, rotary_dim: turned, pairing, scaling }, 0.1));
    }
    let defaults = RopeDefaults { partial_rotary_factor: turned as f64 / width as f64, ..LATENT_ROPE.defaults };
    // The class lets the rope parameters repeat `max_position_embeddings`, which counts at the top level alone.
    let extra_keys = &[BETA, "mscale_all_dim", "max_position_embeddings"];
    let options = RopeOptions { defaults, extra_keys, ..LATENT_ROPE };
    let rope = RopeByLayerType::read_with(config, &options, width, pairing)?.uniform()?.clone();
    if rope.rotary_dim != turned {
        return Err(config.inconsistent(format!(
            "partial_rotary_factor turns {} of {width} elements, but qk_rope_head_dim is {turned}: remove the key",
            rope.rotary_dim
        )));
    }
    let automodel_config::ModelRope::Uniform(parameters) = config.rope_parameters_with(&options)? else {
        return Err(config.unsupported("rope_parameters", "this family has one set for all layers"));
    };
    let beta = parameters.extra.get(BETA).and_then(Value::as_f64).filter(|beta| beta.is_finite());
    let beta =
        beta.ok_or_else(|| config.inconsistent(format!("the rope parameters have no number `{BETA}`: give one")))?;
    Ok((rope, beta))
}

fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let mut moe = softmax_moe(config, "n_routed_experts", config.usize("moe_intermediate_size")?, false)?;
    let (count, chosen) = (config.usize("n_group")?, config.usize("topk_group")?);
    moe.router.groups =
        Some(ExpertGroups { count, chosen, score: GroupScore::BestTwo }).filter(|_| (count, chosen) != (1, 1));
    if config.bool_or_null("norm_topk_prob")?.unwrap_or(false) {
        moe.router.normalize = Normalize::SumPlus(1e-20);
    }
    moe.router.scale = Some(config.f64("routed_scaling_factor")?);
    moe.shared_expert = Some(shared_experts(config, &moe.expert, config.usize("n_shared_experts")?)?);
    Ok(moe)
}
