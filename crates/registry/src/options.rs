//! Options a caller gives by name: those of the config move to it, those of the implementation stay.

use crate::{AcceptedOptions, RegistryError, nearest::nearest};
use automodel_config::{Overrides, ResolvedConfig};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Options sorted by whom they are for.
#[derive(Clone, Debug, Default)]
pub struct SplitOptions {
    /// For the config.
    pub overrides: Overrides,
    /// For the implementation.
    pub implementation: Map<String, Value>,
}

/// Sorts `options`: names that the implementation declares stay with it, names (or dotted paths) that `config` knows become
/// overrides. An implementation that takes any option keeps what the config does not know.
///
/// # Errors
/// [`RegistryError::UnknownOptions`] with every name that neither knows, and names that resemble it.
pub fn split_options(
    options: Map<String, Value>,
    config: &ResolvedConfig,
    accepted: AcceptedOptions,
) -> Result<SplitOptions, RegistryError> {
    let mut split = SplitOptions::default();
    let mut unknown = Vec::new();
    let known = known_keys(config);
    for (name, value) in options {
        let root = name.split('.').next().unwrap_or(&name);
        if accepted.names().contains(&name.as_str()) {
            split.implementation.insert(name, value);
        } else if known.contains(root) {
            split.overrides = split.overrides.set(&name, value);
        } else if accepted == AcceptedOptions::Any {
            split.implementation.insert(name, value);
        } else {
            let names = known.iter().map(String::as_str).chain(accepted.names().iter().copied());
            let near = nearest(&name, names);
            unknown.push((name, near));
        }
    }
    if unknown.is_empty() { Ok(split) } else { Err(RegistryError::UnknownOptions { options: unknown }) }
}

/// Keys of the file and of the config class.
fn known_keys(config: &ResolvedConfig) -> BTreeSet<String> {
    let root = |key: &str| key.split('.').next().unwrap_or(key).to_owned();
    config.describe().iter().map(|(key, ..)| root(key)).collect()
}
