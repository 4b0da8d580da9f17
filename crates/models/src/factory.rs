//! How dedicated implementations are built.

use crate::{CausalLm, ModelError};
use automodel_attention::SdpaBackend;
use automodel_config::ResolvedConfig;
use burn::tensor::Device;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// What a factory gets.
#[derive(Debug)]
pub struct BuildContext<'a> {
    /// The resolved config.
    pub config: &'a ResolvedConfig,
    /// Options that belong to the implementation, checked against those that it declares.
    pub options: &'a Map<String, Value>,
    /// How attention is to be computed.
    pub attention: SdpaBackend,
    /// Where the parameters will be.
    pub device: &'a Device,
}

/// Builds the skeleton of a dedicated implementation.
pub type ModelFactory = Arc<dyn Fn(&BuildContext<'_>) -> Result<Box<dyn CausalLm>, ModelError> + Send + Sync>;

/// Factories by the name of their implementation.
#[derive(Clone, Default)]
pub struct ModelFactories {
    by_name: BTreeMap<String, ModelFactory>,
}

impl ModelFactories {
    /// Adds a factory, in place of one of the same name.
    pub fn insert(&mut self, implementation: &str, factory: ModelFactory) {
        self.by_name.insert(implementation.to_owned(), factory);
    }

    /// Whether an implementation can be built.
    pub fn contains(&self, implementation: &str) -> bool {
        self.by_name.contains_key(implementation)
    }

    /// Builds the skeleton of `implementation`.
    ///
    /// # Errors
    /// [`ModelError::MissingFactory`], and what the factory returns.
    pub fn build(&self, implementation: &str, context: &BuildContext<'_>) -> Result<Box<dyn CausalLm>, ModelError> {
        let factory = self
            .by_name
            .get(implementation)
            .ok_or_else(|| ModelError::MissingFactory { implementation: implementation.to_owned() })?;
        factory(context)
    }
}

impl fmt::Debug for ModelFactories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
