//! How families read a config.

use crate::RegistryError;
use automodel_config::{ConfigError, ModelRope, ResolvedConfig, RopeLayer, RopeOptions, RopeParameters};
use serde_json::Value;
use std::collections::BTreeMap;

/// A resolved config as families read it: every error names the config's model type, and keys that are read count as read.
#[derive(Clone, Copy, Debug)]
pub struct FamilyConfig<'a>(&'a ResolvedConfig);

/// Readers that differ from those of [`ResolvedConfig`] in their error alone.
macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident -> $type:ty;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        /// A value that is missing, of another kind, or out of range.
        pub fn $name(&self, key: &str) -> Result<$type, RegistryError> {
            self.0.$name(key).map_err(|source| self.error(source))
        })*
    };
}

impl<'a> FamilyConfig<'a> {
    /// The config for a family.
    pub fn new(config: &'a ResolvedConfig) -> Self {
        Self(config)
    }

    /// The config itself.
    pub fn resolved(&self) -> &'a ResolvedConfig {
        self.0
    }

    /// `model_type`
    pub fn model_type(&self) -> &'a str {
        self.0.model_type()
    }

    /// The value of a key, `null` too.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.0.value(key)
    }

    readers! {
        /// A size of at least one.
        usize -> usize;
        /// A size, or nothing if the key is null or absent.
        usize_or_null -> Option<usize>;
        /// A number of things, zero too.
        count -> usize;
        /// A number of things, or nothing if the key is null or absent.
        count_or_null -> Option<usize>;
        /// A number.
        f64 -> f64;
        /// A number, or nothing if the key is null or absent.
        f64_or_null -> Option<f64>;
        /// A flag.
        bool -> bool;
        /// A flag, or nothing if the key is null or absent.
        bool_or_null -> Option<bool>;
        /// A list of sizes.
        list_usize -> Vec<usize>;
        /// A list of sizes, or nothing if the key is null or absent.
        list_usize_or_null -> Option<Vec<usize>>;
        /// A list of numbers, or nothing if the key is null or absent.
        list_f64_or_null -> Option<Vec<f64>>;
        /// A list of names, or nothing if the key is null or absent.
        list_str_or_null -> Option<Vec<String>>;
    }

    /// A text.
    ///
    /// # Errors
    /// A value that is missing or no text.
    pub fn str(&self, key: &str) -> Result<&'a str, RegistryError> {
        self.0.str(key).map_err(|source| self.error(source))
    }

    /// `layer_types`, of which there must be at least `layers`.
    ///
    /// # Errors
    /// Fewer types than layers.
    pub fn layer_types(&self, layers: usize) -> Result<Option<Vec<String>>, RegistryError> {
        self.0.layer_types(layers).map_err(|source| self.error(source))
    }

    /// The rope parameters of all layers or of each layer type.
    ///
    /// # Errors
    /// Parameters that are missing or make no sense.
    pub fn rope_parameters_with(&self, options: &RopeOptions) -> Result<ModelRope, RegistryError> {
        self.0.rope_parameters_with(options).map_err(|source| self.error(source))
    }

    /// The rope parameters of families whose layer types always differ.
    ///
    /// # Errors
    /// Parameters that are missing or make no sense.
    pub fn rope_parameters_by_layer_type(
        &self,
        layers: &[RopeLayer],
        options: &RopeOptions,
    ) -> Result<BTreeMap<String, RopeParameters>, RegistryError> {
        self.0.rope_parameters_by_layer_type(layers, options).map_err(|source| self.error(source))
    }

    /// Reads a key that the family's class does not have, and that repeats what another key says: it may be absent or null, or
    /// must agree with the value in force.
    ///
    /// # Errors
    /// [`RegistryError::InconsistentConfig`] for another value.
    pub fn must_agree(&self, key: &str, in_force: usize, other: &str) -> Result<(), RegistryError> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if value.as_f64() == Some(in_force as f64) => Ok(()),
            Some(value) => {
                let value = shown(value);
                Err(self.inconsistent(format!("{key} is {value}, but {other} says {in_force}: remove the wrong one")))
            }
        }
    }

    /// Keys of this config that contradict each other.
    pub fn inconsistent(&self, problem: String) -> RegistryError {
        RegistryError::InconsistentConfig { model_type: self.model_type().to_owned(), problem }
    }

    /// A setting that is not supported, with the reason.
    pub fn unsupported(&self, key: &str, reason: impl Into<String>) -> RegistryError {
        RegistryError::UnsupportedSetting {
            model_type: self.model_type().to_owned(),
            key: key.to_owned(),
            value: self.value(key).map(shown).unwrap_or_default(),
            reason: reason.into(),
        }
    }

    fn error(&self, source: ConfigError) -> RegistryError {
        RegistryError::Config { model_type: self.model_type().to_owned(), source: Box::new(source) }
    }
}

/// A value for a message, however long it is.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
