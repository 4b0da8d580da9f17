//! Mistral AI's models: windows, and mixtures of experts.

pub mod ministral;
pub mod ministral3;
#[expect(clippy::module_inception, reason = "a folder is a lineage, a file a model type")]
pub mod mistral;
pub mod mistral4;
pub mod mixtral;

use serde_json::Value;

/// transformers reads a Mistral config with layer types as Ministral (configuration_auto.py).
pub(crate) fn effective_model_type<'a>(model_type: &'a str, layer_types: Option<&Value>) -> &'a str {
    let has_layer_types = layer_types.is_some_and(|value| !value.is_null());
    if model_type == "mistral" && has_layer_types { "ministral" } else { model_type }
}
