//! Text models of larger ones by themselves, under a model type whose class in transformers computes the same.

use crate::families::BUILTIN;
use crate::spec::{ModelSpec, RopeSpec};
use crate::weights::WeightMap;
use automodel_config::ResolvedConfig;
use serde_json::{Map, Value, json};

/// A text model that has no class with an output head of its own.
struct TextModel {
    model_type: &'static str,
    /// The model type that computes the same.
    same_as: &'static str,
    /// A flag of that, which the text model's config does not have.
    flag: Option<(&'static str, bool)>,
}

const fn text(model_type: &'static str, same_as: &'static str) -> TextModel {
    TextModel { model_type, same_as, flag: None }
}

const TEXT_MODELS: &[TextModel] = &[
    TextModel { flag: Some(("use_qk_norm", false)), ..text("glm4v_moe_text", "glm4_moe") },
    TextModel { flag: Some(("attention_bias", true)), ..text("glm4v_text", "glm4") },
    text("qwen2_5_vl_text", "qwen2"),
    text("qwen2_vl_text", "qwen2"),
    TextModel { flag: Some(("norm_topk_prob", true)), ..text("qwen3_vl_moe_text", "qwen3_moe") },
    TextModel { flag: Some(("use_sliding_window", false)), ..text("qwen3_vl_text", "qwen3") },
];

/// Config and weight map to write a text model with that transformers has inside larger ones alone: those of a model type that
/// computes the same. `None` for all others, which are written as they are.
pub fn standalone(config: &ResolvedConfig, spec: &ModelSpec) -> Option<(Value, WeightMap)> {
    let text = TEXT_MODELS.iter().find(|text| text.model_type == config.model_type())?;
    let family = BUILTIN.iter().find(|family| family.model_type == text.same_as)?;
    let (_, attention) = spec.backbone.attentions().next()?;
    let Value::Object(mut values) = config.to_json_with_defaults() else { return None };
    let rope = ["rope_scaling", "rope_parameters"].map(|key| values.remove(key));
    values.remove("rope_theta");
    values.remove("partial_rotary_factor");
    if let Some(rope_spec) = &attention.rope {
        let given = rope.into_iter().flatten().find_map(|value| match value {
            Value::Object(given) if !given.is_empty() => Some(given),
            _ => None,
        });
        values.insert(
            "rope_parameters".to_owned(),
            rope_parameters(given.unwrap_or_default(), rope_spec, attention.head_dim),
        );
    }
    values.insert("head_dim".to_owned(), json!(attention.head_dim));
    if let Some((key, flag)) = text.flag {
        values.insert(key.to_owned(), json!(flag));
    }
    values.insert("model_type".to_owned(), json!(family.model_type));
    values.insert("architectures".to_owned(), json!(family.architectures));
    Some((Value::Object(values), family.layout.weight_map(spec)))
}

/// Without what belongs to several positions.
fn rope_parameters(mut given: Map<String, Value>, spec: &RopeSpec, head_dim: usize) -> Value {
    let kind = ["rope_type", "type"].map(|key| given.remove(key)).into_iter().flatten().next();
    let kind = kind.filter(|kind| kind != "mrope").unwrap_or_else(|| json!("default"));
    given.retain(|key, _| !key.starts_with("mrope_"));
    given.insert("rope_type".to_owned(), kind);
    given.insert("rope_theta".to_owned(), json!(spec.theta));
    // GLM's classes rotate half of a head unless they are told.
    given.insert("partial_rotary_factor".to_owned(), json!(spec.rotary_dim as f64 / head_dim as f64));
    Value::Object(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, ResolveOptions};
    use automodel_config::{Overrides, RawConfig};

    fn lower(config: Value) -> (ResolvedConfig, ModelSpec, WeightMap) {
        let registry = Registry::builtin();
        let raw = RawConfig::from_value(config).unwrap();
        let options = ResolveOptions::default();
        let (config, resolution) = registry.resolve_config(&raw, &Overrides::new(), &options).unwrap();
        let lowered = registry.lower(&config, &resolution).unwrap();
        config.check_all_read(&[]).unwrap();
        (config, lowered.spec.unwrap(), lowered.weights)
    }

    #[test]
    fn they_are_the_same_under_another_name() {
        for text in TEXT_MODELS {
            let small = json!({
                "model_type": text.model_type, "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 3,
                "num_attention_heads": 4, "num_key_value_heads": 2, "rope_scaling": {"mrope_section": [2, 1, 1], "type": "mrope"},
            });
            let mut yarn = small.clone();
            yarn["rope_scaling"] = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
            let mut own = small.clone();
            own["rope_theta"] = json!(777.0);
            own["tie_word_embeddings"] = json!(true);
            // Of GLM's classes alone, the others rotate whole heads.
            if text.model_type.starts_with("glm") {
                own["partial_rotary_factor"] = json!(0.25);
            }
            for config in [small, yarn, own] {
                let (config, spec, _) = lower(config);
                let (alone, weights) = standalone(&config, &spec).unwrap();
                let (alone, same, expected) = lower(alone);
                assert_eq!(alone.model_type(), text.same_as);
                assert_eq!(same, spec, "{}", text.model_type);
                assert_eq!(weights, expected, "{}", text.model_type);
                assert!(standalone(&alone, &same).is_none());
            }
        }
    }
}
