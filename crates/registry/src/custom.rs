//! Dedicated implementations: what they serve, what they accept, and when they are compatible.

use crate::{RegistryError, weights::WeightMap};
use automodel_config::{ClassDefaults, ResolvedConfig};

/// A dedicated implementation of an architecture. It takes precedence over the generic one where it is compatible. The
/// module itself is built by a factory of the same name, which the `models` crate keeps: this crate knows nothing of Burn.
#[derive(Clone, Copy, Debug)]
pub struct CustomImplementation {
    /// Name, unique among implementations.
    pub name: &'static str,
    /// `architectures[0]` that it is for.
    pub architecture: &'static str,
    /// `model_type` whose configs it reads.
    pub model_type: &'static str,
    /// What its config class assumes for absent keys; they count where it is chosen for a config of its `model_type`.
    pub defaults: &'static ClassDefaults,
    /// Options of its own, besides the config.
    pub options: AcceptedOptions,
    /// What it is for, `retrieval` for instance.
    pub tags: &'static [&'static str],
    /// Declines configs that it cannot serve, with the reason.
    pub supports: Option<SupportsConfig>,
    /// Where the checkpoint keeps its parameters.
    pub weight_map: fn(&ResolvedConfig) -> Result<WeightMap, RegistryError>,
}

/// Whether an implementation can serve a config; the error is the reason why not, as a sentence.
pub type SupportsConfig = fn(&ResolvedConfig) -> Result<(), String>;

/// Options that an implementation accepts besides its config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedOptions {
    /// These and no others.
    Named(&'static [&'static str]),
    /// Any.
    Any,
}

impl AcceptedOptions {
    /// Whether `name` is accepted.
    pub fn accepts(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(&name),
            Self::Any => true,
        }
    }

    /// The names that are declared.
    pub fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Named(names) => names,
            Self::Any => &[],
        }
    }
}

/// When the configs of an architecture fit a custom implementation. Some architectures are shared by versions that differ.
#[derive(Clone, Copy, Debug)]
pub struct CompatibilityRule {
    /// `architectures[0]`.
    pub architecture: &'static str,
    /// The config must have at least one of these keys with a value.
    pub any_of: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
}

/// The rules that every registry starts with.
pub static BUILTIN_RULES: &[CompatibilityRule] = &[CompatibilityRule {
    architecture: "NemotronHForCausalLM",
    any_of: &["n_routed_experts", "layers_block_type"],
    reason: "version 3 configs have `n_routed_experts` or `layers_block_type`; version 2 configs, with \
             `hybrid_override_pattern` alone, describe another model",
}];

impl CompatibilityRule {
    /// Whether `config` fits; the keys are not marked as read.
    pub fn fits(&self, config: &ResolvedConfig) -> bool {
        self.any_of.iter().any(|key| config.peek(key).is_some_and(|value| !value.is_null()))
    }
}
