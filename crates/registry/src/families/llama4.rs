//! Llama 4: rotation within chunks on three of four layers, with norms of queries and keys after it; no positions but a temperature of
//! queries on the others; experts whose input is weighted.

use super::prelude::*;

pub static FAMILY: Family = Family {
    model_type: "llama4_text",
    architectures: &["Llama4ForCausalLM"],
    defaults: &DEFAULTS,
    lower,
    // Of the code of its training.
    ignored_keys: &["for_llm_compressor"],
    layout: LAYOUT,
};

static DEFAULTS: ClassDefaults = ClassDefaults {
    values: &[
        ("vocab_size", Int(202_048)),
        ("hidden_size", Int(5120)),
        ("intermediate_size", Int(8192)),
        ("intermediate_size_mlp", Int(16_384)),
        ("num_hidden_layers", Int(48)),
        ("num_attention_heads", Int(40)),
        ("num_key_value_heads", Int(8)),
        ("head_dim", Int(128)),
        ("hidden_act", Str("silu")),
        ("max_position_embeddings", Int(131_072)),
        ("rms_norm_eps", Float(1e-05)),
        ("tie_word_embeddings", Bool(false)),
        ("attention_bias", Bool(false)),
        ("num_experts_per_tok", Int(1)),
        ("num_local_experts", Int(16)),
        ("moe_layers", Null),
        ("interleave_moe_layer_step", Int(1)),
        ("use_qk_norm", Bool(true)),
        ("no_rope_layers", Null),
        ("no_rope_layer_interval", Int(4)),
        ("attention_chunk_size", Int(8192)),
        ("layer_types", Null),
        ("attn_temperature_tuning", Bool(true)),
        ("floor_scale", Int(8192)),
        ("attn_scale", Float(0.1)),
    ],
    aliases: &[],
};

/// Experts in two tensors, `[experts, hidden_size, 2 * intermediate_size]` and `[experts, intermediate_size, hidden_size]`.
const LAYOUT: Layout = Layout {
    rules: &[
        PACKED_EXPERTS,
        Rule::Transpose("mlp.experts."),
        STACKED_EXPERTS,
        Rule::Rename("mlp.gate.", "mlp.router."),
        Rule::Rename("mlp.", "feed_forward."),
    ],
    ..Layout::LLAMA
};

fn lower(config: &FamilyConfig<'_>) -> Result<ModelSpec, RegistryError> {
    let defaults = RopeDefaults { theta: 500_000.0, ..RopeDefaults::default() };
    let mut template = Template::read(config, &Keys { intermediate_size: "intermediate_size_mlp", ..Keys::LLAMA })?
        .with_rope(config, defaults, RopePairing::Interleaved)?;
    template.attention.bias = attention_bias(config)?;
    let layers = template.num_hidden_layers;
    let rotates = rotating_layers(config, layers)?;
    let types =
        layer_types(config, layers, |index| if rotates[index] { "chunked_attention" } else { "full_attention" })?;
    let chunk = config.usize_or_null("attention_chunk_size")?;
    let (moe, sparse) = (moe(config)?, config.list_usize_or_null("moe_layers")?);
    let step = config.usize("interleave_moe_layer_step")?;
    let norm = NormSpec { kind: NormKind::RmsWithoutWeight, eps: template.norm.eps };
    let qk_norm = config.bool("use_qk_norm")?.then_some(QkNorm { norm, extent: QkNormExtent::Head, after_rope: true });
    let temperature = QueryTemperature {
        first: 1,
        scale: config.f64("attn_scale")?,
        floor_scale: config.usize("floor_scale")? as f64,
    };
    let temperature = config.bool("attn_temperature_tuning")?.then_some(temperature);
    template.build(|index, layer| {
        let attention = &mut layer.attention;
        attention.mask = match (types[index].as_str(), chunk) {
            ("chunked_attention", Some(size)) => AttentionMask::Chunked { size },
            ("full_attention", _) => AttentionMask::Full,
            (_, Some(_)) => return Err(config.unsupported("layer_types", "this family has chunked and full layers")),
            (_, None) => {
                let problem = "layer_types has chunked_attention but attention_chunk_size is null: give a size";
                return Err(config.inconsistent(problem.to_owned()));
            }
        };
        if rotates[index] {
            attention.qk_norm = qk_norm.clone();
        } else {
            attention.rope = None;
            attention.query_temperature = temperature;
        }
        let is_sparse = match &sparse {
            Some(list) => list.contains(&index),
            None => (index + 1).is_multiple_of(step),
        };
        if is_sparse {
            layer.mlp = FeedForward::Moe(moe.clone());
        }
        Ok(())
    })
}

/// `no_rope_layers`, whose ones rotate; if it is absent or empty, all but every n-th do.
fn rotating_layers(config: &FamilyConfig<'_>, layers: usize) -> Result<Vec<bool>, RegistryError> {
    let interval = config.usize("no_rope_layer_interval")?;
    match config.list_usize_or_null("no_rope_layers")?.filter(|list| !list.is_empty()) {
        Some(list) if list.len() >= layers => Ok(list.iter().map(|&flag| flag != 0).collect()),
        Some(list) => {
            Err(config.inconsistent(format!("no_rope_layers has {} entries for {layers} layers", list.len())))
        }
        None => Ok((0..layers.min(MOST_LAYERS)).map(|index| !(index + 1).is_multiple_of(interval)).collect()),
    }
}

/// Sigmoids of the best logits weight what the experts are given; the shared expert is as wide as they are.
fn moe(config: &FamilyConfig<'_>) -> Result<MoeSpec, RegistryError> {
    let mut moe = softmax_moe(config, "num_local_experts", config.usize("intermediate_size")?, false)?;
    moe.router = RouterSpec { weighted: Weighted::Inputs, ..RouterSpec::new(RouterScore::Sigmoid) };
    moe.shared_expert = Some(SharedExpert { mlp: moe.expert.clone(), gate: false, norms: None });
    Ok(moe)
}
