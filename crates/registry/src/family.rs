//! A family: how the configs of one model type become specifications.

use crate::{FamilyConfig, RegistryError, spec::ModelSpec, weights::Layout};
use automodel_config::ClassDefaults;

/// How the configs of one `model_type` become specifications. Plain data: users declare their own as statics.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// `model_type` in config.json.
    pub model_type: &'static str,
    /// `architectures` that its checkpoints name.
    pub architectures: &'static [&'static str],
    /// What the config class assumes for absent keys.
    pub defaults: &'static ClassDefaults,
    /// From config to mathematics. Everything that the mathematics depends on is read through the config, so that keys
    /// that nobody read can be named.
    pub lower: fn(&FamilyConfig<'_>) -> Result<ModelSpec, RegistryError>,
    /// Keys that its configs carry and that the family's code in transformers does not read, although other families do.
    pub ignored_keys: &'static [&'static str],
    /// How checkpoints name and pack the parameters.
    pub layout: Layout,
}
