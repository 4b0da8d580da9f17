//! What Gemma 4's text models share: heads by layer type, normalised values, layers with the keys and values of earlier ones,
//! layers that scale what they give.

use super::super::prelude::*;
use automodel_config::RopeLayer;
use serde_json::Value;

/// Sizes, norms, activation and head.
pub(super) fn template(config: &FamilyConfig<'_>) -> Result<Template, RegistryError> {
    if config.value("use_bidirectional_attention").and_then(Value::as_str) == Some("all") {
        let reason = "each position would see later ones (an embedding model): the logits of a causal language model would be \
                      others";
        return Err(config.unsupported("use_bidirectional_attention", reason));
    }
    let keys = Keys { activation: Some("hidden_activation"), ..Keys::LLAMA };
    let mut template = Template::read(config, &keys)?;
    template.embedding.scale = Some((template.hidden_size as f64).sqrt());
    template.norm.kind = NormKind::RmsProductInFloat32;
    template.layer = LayerSpec::sandwich;
    template.attention.bias = attention_bias(config)?;
    template.attention.scale = 1.0;
    template.attention.value_norm = Some(NormSpec { kind: NormKind::RmsWithoutWeight, eps: template.norm.eps });
    template.head.logit_softcap = config.f64_or_null("final_logit_softcapping")?;
    Ok(template.with_qk_norm(QkNormExtent::Head))
}

/// The attention of each layer.
pub(super) struct Attentions {
    layers: Vec<AttentionSpec>,
    double_wide: bool,
}

impl Attentions {
    pub(super) fn read(config: &FamilyConfig<'_>, template: &Template) -> Result<Self, RegistryError> {
        let count = template.num_hidden_layers;
        let every_sixth = |index: usize| if (index + 1).is_multiple_of(6) { FULL } else { SLIDING };
        let mut types = layer_types(config, count, every_sixth)?;
        types.truncate(count);
        // The class forces the last layer to see everything.
        if let Some(last) = types.last_mut() {
            *last = FULL.to_owned();
        }
        let heads = Heads::read(config, template, &types)?;
        let of_type = |name: &str| types.iter().position(|kind| kind == name).map(|index| heads.0[index]);
        let ropes = ropes(config, |name| of_type(name).map_or(template.attention.head_dim, |(head_dim, _)| head_dim))?;
        let window = config.usize_or_null("sliding_window")?;
        let keys_are_values = config.bool("attention_k_eq_v")?;
        let sources = shared_key_values(config, &types)?;
        let mut layers = Vec::with_capacity(count);
        for (index, layer_type) in types.iter().enumerate() {
            let (head_dim, num_key_value_heads) = heads.0[index];
            if of_type(layer_type) != Some(heads.0[index]) {
                let problem = format!("layers of the type {layer_type} differ in per_layer_config: make them alike");
                return Err(config.inconsistent(problem));
            }
            let mut attention = AttentionSpec { head_dim, num_key_value_heads, ..template.attention.clone() };
            attention.mask = mask_of(config, layer_type, window)?;
            attention.rope = ropes.of(layer_type)?;
            match sources[index] {
                Some(source) => {
                    attention.key_values = KeyValues::OfLayer(source);
                    attention.value_norm = None;
                }
                None if keys_are_values && layer_type == FULL => attention.key_values = KeyValues::OneProjection,
                None => {}
            }
            layers.push(attention);
        }
        Ok(Self { layers, double_wide: config.bool("use_double_wide_mlp")? })
    }

    /// Attention and width of the MLP of a layer.
    pub(super) fn change(&self, index: usize, parts: &mut LayerParts) {
        parts.attention = self.layers[index].clone();
        if let FeedForward::Gated(mlp) = &mut parts.mlp
            && self.double_wide
            && !parts.attention.key_values.are_own()
        {
            mlp.intermediate_size = mlp.intermediate_size.saturating_mul(2);
        }
    }
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Width of a head, and number of key-value heads, of each layer.
struct Heads(Vec<(usize, usize)>);

impl Heads {
    /// `per_layer_config` as transformers writes it, or the keys of published files, which are for layers that see everything.
    fn read(config: &FamilyConfig<'_>, template: &Template, types: &[String]) -> Result<Self, RegistryError> {
        let own = (template.attention.head_dim, template.attention.num_key_value_heads);
        let mut layers = vec![own; types.len()];
        let global_head_dim = config.usize_or_null("global_head_dim")?.unwrap_or(512);
        let global_heads = config.usize_or_null("num_global_key_value_heads")?;
        let global_heads = global_heads.filter(|_| config.bool("attention_k_eq_v").unwrap_or(false));
        match config.value(PER_LAYER) {
            None => {
                let global = (global_head_dim, global_heads.unwrap_or(own.1));
                for (layer, _) in layers.iter_mut().zip(types).filter(|(_, layer_type)| *layer_type == FULL) {
                    *layer = global;
                }
            }
            Some(Value::Null) => {}
            Some(Value::Object(overrides)) => {
                for (index, values) in overrides {
                    let layer = index.parse().ok().and_then(|index: usize| layers.get_mut(index));
                    let (Some(layer), Value::Object(values)) = (layer, values) else {
                        return Err(config.unsupported(PER_LAYER, "its keys are numbers of layers, its values objects"));
                    };
                    for (key, value) in values {
                        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
                        let size = size.filter(|size| (1..=MOST).contains(size));
                        match (key.as_str(), size) {
                            ("head_dim", Some(size)) => layer.0 = size,
                            ("num_key_value_heads", Some(size)) => layer.1 = size,
                            _ => {
                                let reason = "supported are head_dim and num_key_value_heads, as sizes of a model";
                                return Err(config.unsupported(PER_LAYER, reason));
                            }
                        }
                    }
                }
            }
            Some(_) => return Err(config.unsupported(PER_LAYER, "it is an object, by the numbers of layers")),
        }
        Ok(Self(layers))
    }
}

const PER_LAYER: &str = "per_layer_config";

/// More than any head's width or number of heads.
const MOST: usize = 1 << 16;

/// Rotary embeddings by layer type: without parameters a quarter of the heads rotates in layers that see everything.
fn ropes(config: &FamilyConfig<'_>, head_dim: impl Fn(&str) -> usize) -> Result<RopeByLayerType, RegistryError> {
    let layer = |layer_type, theta| {
        let defaults = RopeDefaults { theta, ..RopeDefaults::default() };
        RopeLayer { layer_type, defaults, theta_key: Some("rope_theta"), takes_rope_scaling: false }
    };
    if !matches!(config.value("rope_parameters"), None | Some(Value::Null)) {
        return RopeByLayerType::by_layers(config, &[layer(FULL, 10_000.0), layer(SLIDING, 10_000.0)], head_dim);
    }
    let pairing = RopePairing::HalfSplit;
    let whole = head_dim(FULL);
    let full = RopeSpec {
        theta: 1_000_000.0,
        rotary_dim: whole / 8 * 2,
        pairing,
        scaling: RopeScaling::Proportional { factor: 1.0, head_dim: whole },
    };
    let rotary_dim = head_dim(SLIDING);
    let sliding = RopeSpec { theta: 10_000.0, rotary_dim, pairing, scaling: RopeScaling::Default };
    Ok(RopeByLayerType::of_types(config, [(FULL, full), (SLIDING, sliding)]))
}

/// For each of the last `num_kv_shared_layers` layers, the last one of its type before them all.
fn shared_key_values(config: &FamilyConfig<'_>, types: &[String]) -> Result<Vec<Option<usize>>, RegistryError> {
    let shared = config.count_or_null("num_kv_shared_layers")?.unwrap_or(0);
    let Some(first) = types.len().checked_sub(shared) else {
        let problem = format!("num_kv_shared_layers is {shared}, but there are {} layers: correct it", types.len());
        return Err(config.inconsistent(problem));
    };
    let source = |index: usize| {
        let own = types[..first].iter().rposition(|kind| *kind == types[index]);
        own.ok_or_else(|| {
            config.inconsistent(format!(
                "layer {index} of the type {} shares keys and values, but none of the first {first} layers is of that type",
                types[index]
            ))
        })
    };
    (0..types.len()).map(|index| if index < first { Ok(None) } else { source(index).map(Some) }).collect()
}

/// Names of Gemma 4's own parts.
pub(super) const LAYOUT: Layout = Layout {
    rules: &[
        PACKED_EXPERTS,
        Rule::Stack { over: "mlp.experts", into: "experts" },
        Rule::Rename("mlp.gate.weight", "router.proj.weight"),
        Rule::Rename("mlp.gate.norm.weight", "router.scale"),
        Rule::Rename("mlp.gate.per_expert_scale", "router.per_expert_scale"),
        Rule::Rename("mlp.shared_expert.", "mlp."),
        Rule::Rename("mlp.norms.shared_pre.", "pre_feedforward_layernorm."),
        Rule::Rename("mlp.norms.shared_post.", "post_feedforward_layernorm_1."),
        Rule::Rename("mlp.norms.routed_pre.", "pre_feedforward_layernorm_2."),
        Rule::Rename("mlp.norms.routed_post.", "post_feedforward_layernorm_2."),
        Rule::Rename("layer_embeddings.embed_tokens.", "embed_tokens_per_layer."),
        Rule::Rename("layer_embeddings.projection.", "per_layer_model_projection."),
        Rule::Rename("layer_embeddings.norm.", "per_layer_projection_norm."),
        Rule::Rename("per_layer_input.gate.", "per_layer_input_gate."),
        Rule::Rename("per_layer_input.projection.", "per_layer_projection."),
    ],
    ignored: &[
        ("*.self_attn.k_proj.weight", OTHER_KEYS),
        ("*.self_attn.v_proj.weight", OTHER_KEYS),
        ("*.self_attn.k_norm.weight", OTHER_KEYS),
    ],
    ..Layout::LLAMA
};

const OTHER_KEYS: &str = "the layer has the keys and values of an earlier one, or its keys are its values";
