//! Ministral 3: Mistral with YaRN, and queries that grow with the position.

use super::super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "ministral3",
    architectures: &["Ministral3ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    ignored_keys: &[],
    layout: Layout::LLAMA,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(131_072)),
        ("hidden_size", Int(4096)),
        ("intermediate_size", Int(14_336)),
        ("num_hidden_layers", Int(34)),
        ("num_attention_heads", Int(32)),
        ("num_key_value_heads", Int(8)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(262_144)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("head_dim", Int(128)),
        ("sliding_window", Null),
    ],
    aliases: &[],
};

/// Key of the rope parameters with the factor of [`QueryTemperature`].
const BETA: &str = "llama_4_scaling_beta";

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let mut template = Template::read(config, &Keys::LLAMA)?;
    let (rope, scale) = positions(config, template.attention.head_dim)?;
    let original = match &rope.scaling {
        RopeScaling::Yarn(yarn) => yarn.original_max_position_embeddings,
        RopeScaling::Llama3 { original_max_position_embeddings, .. } => *original_max_position_embeddings,
        _ => {
            let reason = "the queries' growth follows `original_max_position_embeddings`, which yarn and llama3 have";
            return Err(config.unsupported("rope_parameters", reason));
        }
    };
    template.attention.query_temperature = Some(QueryTemperature { first: 0, scale, floor_scale: original as f64 });
    template.attention.rope = Some(rope);
    template.attention.mask = uniform_window(config)?;
    template.build_uniform()
}

/// The rotary embedding and the factor of the queries' growth; the class has both for configs without rope parameters.
fn positions(config: &FamilyConfig<'_>, head_dim: usize) -> Result<(RopeSpec, f64), RegistryError> {
    if !gives_rope_parameters(config) {
        let yarn = YarnRope {
            factor: 16.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position_embeddings: 16_384,
            attention_factor: 1.0,
            truncate: true,
        };
        let (pairing, scaling) = (RopePairing::HalfSplit, RopeScaling::Yarn(yarn));
        return Ok((RopeSpec { theta: 1_000_000.0, rotary_dim: head_dim, pairing, scaling }, 0.1));
    }
    // The class lets the rope parameters repeat `max_position_embeddings`, which counts at the top level alone.
    let options = RopeOptions { extra_keys: &[BETA, "max_position_embeddings"], ..RopeOptions::default() };
    let (rope, extra) = RopeByLayerType::read_whole_with_extra(config, &options, head_dim, RopePairing::HalfSplit)?;
    let beta = extra.get(BETA).and_then(serde_json::Value::as_f64).filter(|beta| beta.is_finite());
    let beta =
        beta.ok_or_else(|| config.inconsistent(format!("the rope parameters have no number `{BETA}`: give one")))?;
    Ok((rope, beta))
}
