//! What can go wrong between a config and a specification.

use crate::SimilarFamily;
use automodel_config::ConfigError;
use thiserror::Error;

/// What can go wrong between a config and a specification.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A config that no family and no custom implementation supports.
    #[error(
        "model type `{model_type}`{}{} is not supported: {}{}{}",
        with_architectures(.architectures),
        of_checkpoint(.checkpoint),
        .missing.unwrap_or("no implementation is registered for it"),
        misspelt(.nearest),
        similar_to(.similar)
    )]
    UnsupportedArchitecture {
        /// `model_type` of the config.
        model_type: String,
        /// `architectures` of the config.
        architectures: Vec<String>,
        /// The checkpoint, if known.
        checkpoint: Option<Box<str>>,
        /// What it computes that no implementation does, where that is known.
        missing: Option<&'static str>,
        /// Supported model types of which the name may be a misspelling.
        nearest: Box<[String]>,
        /// Supported families whose mathematics comes nearest to the checkpoint's, nearest first.
        similar: Box<[SimilarFamily]>,
    },
    /// A model type that the caller assumes and that no family has.
    #[error("model type `{model_type}` cannot be assumed: no family has that name{}", misspelt(.nearest))]
    UnknownAssumption {
        /// What was assumed.
        model_type: String,
        /// Supported model types of which the name may be a misspelling.
        nearest: Vec<String>,
    },
    /// A text model inside a larger model that is not known, or whose text model is not served as it runs it.
    #[error("the text model `{text}` inside a model of type `{wrapper}` is not supported: {reason}")]
    UnsupportedWrapper {
        /// `model_type` of the larger model.
        wrapper: String,
        /// `model_type` of the text model.
        text: String,
        /// Why, as a sentence.
        reason: String,
    },
    /// A second registration under one name.
    #[error("{what} `{name}` is registered already: ask for replacement, or choose another name")]
    DuplicateRegistration {
        /// What was registered.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The config could not be read.
    #[error("the config of model type `{model_type}` cannot be used")]
    Config {
        /// `model_type` of the config.
        model_type: String,
        /// The cause.
        #[source]
        source: Box<ConfigError>,
    },
    /// A value that contradicts another.
    #[error("config of model type `{model_type}`: {problem}")]
    InconsistentConfig {
        /// `model_type` of the config.
        model_type: String,
        /// What contradicts what, and what to do.
        problem: String,
    },
    /// A setting whose mathematics is not implemented.
    #[error("`{key}` = {value} of model type `{model_type}` is not supported: {reason}")]
    UnsupportedSetting {
        /// `model_type` of the config.
        model_type: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// Why, and what would be.
        reason: String,
    },
    /// More parameters than the checkpoint can have.
    #[error(
        "the config of model type `{model_type}` describes some {parameters} parameters{}: num_hidden_layers, the number of \
         experts or that of heads is wrong; correct it",
        match .tensors {
            0 => String::new(),
            tensors => format!(", and the checkpoint has {tensors} tensor(s)"),
        }
    )]
    TooManyParameters {
        /// `model_type` of the config.
        model_type: String,
        /// How many it describes, about.
        parameters: usize,
        /// Tensors of the checkpoint; 0 without one.
        tensors: usize,
    },
    /// Options that neither the config nor the implementation knows.
    #[error("unknown option{} {}", if .options.len() == 1 { "" } else { "s" }, unknown_options(.options))]
    UnknownOptions {
        /// Each option with known names that resemble it.
        options: Vec<(String, Vec<String>)>,
    },
    /// A custom implementation without a way to lower its config.
    #[error("the custom implementation `{implementation}` cannot lower this config: {reason}")]
    CustomLowering {
        /// Its name.
        implementation: String,
        /// What it said.
        reason: String,
    },
}

fn with_architectures(architectures: &[String]) -> String {
    if architectures.is_empty() { String::new() } else { format!(" (architectures: {})", architectures.join(", ")) }
}

fn of_checkpoint(checkpoint: &Option<Box<str>>) -> String {
    checkpoint.as_ref().map(|checkpoint| format!(" of `{checkpoint}`")).unwrap_or_default()
}

fn misspelt(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!(" (is it a misspelling of {}?)", nearest.join(" or ")) }
}

fn similar_to(similar: &[SimilarFamily]) -> String {
    let told = crate::similar::told(similar);
    if told.is_empty() { String::new() } else { format!("; nearest by tensors and config keys: {told}") }
}

fn unknown_options(options: &[(String, Vec<String>)]) -> String {
    let each = options.iter().map(|(option, near)| match near.as_slice() {
        [] => format!("`{option}`"),
        near => format!("`{option}` (did you mean {}?)", near.join(" or ")),
    });
    each.collect::<Vec<_>>().join(", ") + ": neither the config nor the implementation reads it"
}
