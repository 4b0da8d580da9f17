//! Which implementation supports a config, and why.

use crate::CustomImplementation;
use automodel_config::ResolvedConfig;
use serde::Serialize;

/// What the caller asks of a resolution.
#[derive(Clone, Debug, Default)]
pub struct ResolveOptions {
    /// Use the generic implementation even where a custom one is compatible.
    pub force_generic: bool,
    /// Computes the config as this model type, whatever its own is, with the generic implementation: a guess that nothing verifies.
    pub assume_model_type: Option<String>,
}

/// Which implementation supports a config, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// `architectures[0]`, if there is one.
    pub architecture: Option<String>,
    /// `model_type`.
    pub model_type: String,
    /// What was chosen.
    pub implementation: Implementation,
    /// Why, as a sentence.
    pub reason: String,
    /// What the caller should know besides: that the family's mathematics is not that of a class in transformers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// Every custom implementation that was considered.
    pub considered: Vec<Considered>,
    /// The model type that the caller assumes in place of the config's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assumed: Option<String>,
}

/// The implementation that supports a config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Implementation {
    /// A dedicated implementation.
    Custom {
        /// Its name.
        name: String,
    },
    /// The decoder that is built from a spec.
    Generic {
        /// The family that lowers the config.
        family: String,
    },
}

/// A custom implementation that was considered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Its name.
    pub name: String,
    /// Chosen, or why not.
    pub verdict: String,
}

impl Considered {
    pub(crate) fn new(implementation: &CustomImplementation, verdict: String) -> Self {
        Self { name: implementation.name.to_owned(), verdict }
    }
}

impl Resolution {
    /// The choice of a custom implementation.
    pub(crate) fn custom(
        chosen: &CustomImplementation,
        config: &ResolvedConfig,
        model_type: &str,
        considered: Vec<Considered>,
    ) -> Self {
        Self {
            architecture: config.architectures().first().cloned(),
            model_type: model_type.to_owned(),
            reason: format!(
                "the custom implementation `{}` is registered for `{}` and compatible with this config",
                chosen.name, chosen.architecture
            ),
            implementation: Implementation::Custom { name: chosen.name.to_owned() },
            remark: None,
            considered,
            assumed: None,
        }
    }

    /// A config of model type `own` computed as `family`, because the caller assumes that.
    pub(crate) fn assumed(family: &str, own: &str, config: &ResolvedConfig) -> Self {
        Self {
            architecture: config.architectures().first().cloned(),
            model_type: own.to_owned(),
            reason: assumption(own, family),
            implementation: Implementation::Generic { family: family.to_owned() },
            remark: None,
            considered: Vec::new(),
            assumed: Some(family.to_owned()),
        }
    }

    /// A warning for every report about a model that is computed as another model type.
    pub fn assumption(&self) -> Option<String> {
        self.assumed.as_ref().map(|family| assumption(&self.model_type, family))
    }
}

fn assumption(own: &str, family: &str) -> String {
    format!(
        "ASSUMED: model type `{own}` is computed as `{family}` because that was requested; whether its mathematics is the same is unknown"
    )
}
