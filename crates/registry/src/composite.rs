//! Models of several parts: which of them is loaded, and where checkpoints keep it.

use crate::wrapper;
use automodel_config::ResolvedConfig;
use serde::Serialize;

/// A model of several parts, as its config lists them. The text model is the part that is loaded; what the larger model's class
/// does to its logits and ties is in the resolved config, with [`Origin::Derived`](automodel_config::Origin::Derived).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Composite {
    /// `model_type` of the larger model.
    pub model_type: Option<String>,
    /// Its parts, in the order of the config.
    pub parts: Vec<CompositePart>,
}

/// One part of a larger model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompositePart {
    /// Key of its config: `text_config`.
    pub key: String,
    /// Its `model_type`.
    pub model_type: Option<String>,
    /// Whether it is loaded.
    pub loaded: bool,
    /// Where checkpoints keep what the part by itself has under `model.`, the first that fits; empty for parts that are not
    /// loaded.
    pub prefixes: Vec<String>,
}

/// Prefixes that the text model of any wrapper may have.
const TEXT_PREFIXES: [&str; 2] = ["model.language_model.", "language_model.model."];

impl Composite {
    /// The larger model around the text model of a config; `None` for a text model by itself.
    pub fn of(config: &ResolvedConfig) -> Option<Self> {
        let wrapper = config.wrapper()?;
        let own = wrapper.model_type.and_then(wrapper::prefix);
        let parts = wrapper.parts().map(|(key, values)| {
            let loaded = key == wrapper.key;
            let model_type = match loaded {
                true => Some(config.model_type()),
                false => values.get("model_type").and_then(serde_json::Value::as_str),
            };
            let prefixes = own.into_iter().chain(TEXT_PREFIXES).filter(|_| loaded).map(str::to_owned).collect();
            CompositePart { key: key.to_owned(), model_type: model_type.map(str::to_owned), loaded, prefixes }
        });
        Some(Self { model_type: wrapper.model_type.map(str::to_owned), parts: parts.collect() })
    }

    /// Renamings of the loaded parts, for [`WeightMap::prefixes`](crate::weights::WeightMap::prefixes).
    pub(crate) fn renamings(&self) -> impl Iterator<Item = (String, String)> {
        let prefixes = self.parts.iter().flat_map(|part| &part.prefixes);
        prefixes.map(|prefix| ("model.".to_owned(), prefix.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, ResolveOptions};
    use automodel_config::{Overrides, RawConfig};
    use serde_json::{Value, json};

    fn composite(config: Value) -> (Option<Composite>, crate::weights::WeightMap) {
        let registry = Registry::builtin();
        let raw = RawConfig::from_value(config).unwrap();
        let options = ResolveOptions::default();
        let (config, resolution) = registry.resolve_config(&raw, &Overrides::new(), &options).unwrap();
        let lowered = registry.lower(&config, &resolution).unwrap();
        (lowered.composite, lowered.weights)
    }

    #[test]
    fn parts_are_listed_and_the_text_model_is_loaded() {
        let (found, weights) = composite(json!({
            "model_type": "idefics3", "text_config": {"model_type": "llama"},
            "vision_config": {"model_type": "idefics3_vision"}, "quantization_config": null, "image_token_id": 7,
        }));
        let found = found.unwrap();
        assert_eq!(found.model_type.as_deref(), Some("idefics3"));
        let [text, vision] = &found.parts[..] else { panic!("{:?}", found.parts) };
        assert_eq!((text.key.as_str(), text.model_type.as_deref(), text.loaded), ("text_config", Some("llama"), true));
        assert_eq!(text.prefixes[0], "model.text_model.");
        assert_eq!((vision.key.as_str(), vision.loaded, vision.prefixes.len()), ("vision_config", false, 0));
        assert_eq!(weights.prefixes[0], ("model.".to_owned(), "model.text_model.".to_owned()));
    }

    #[test]
    fn a_text_model_by_itself_is_no_composite() {
        assert_eq!(composite(json!({"model_type": "llama"})).0, None);
    }
}
