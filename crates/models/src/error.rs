//! What can go wrong while a model is built or run.

use thiserror::Error;

/// What can go wrong while a model is built or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A batch without tokens.
    #[error("row {row} of the batch has no tokens: give every sequence at least one token")]
    EmptyBatch {
        /// The row.
        row: usize,
    },
    /// A token id that the embedding has no row for.
    #[error(
        "token {token} at position {position} of row {row} is outside the vocabulary of {vocab_size}: \
         token ids go from 0 to {}; use the tokenizer of this checkpoint", vocab_size - 1
    )]
    TokenOutOfVocabulary {
        /// The token id.
        token: u32,
        /// Its row in the batch.
        row: usize,
        /// Its position in the row.
        position: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sequence longer than the learned positions.
    #[error(
        "a sequence of {length} tokens is longer than the {limit} positions that the model has learned: shorten it"
    )]
    TooManyPositions {
        /// Length of the sequence, cached positions included.
        length: usize,
        /// Rows of the position table.
        limit: usize,
    },
    /// A batch of another size than its cache.
    #[error("the batch has {batch} sequences but its cache was made for {cache}: make a cache of the batch's size")]
    CacheBatchSize {
        /// Sequences in the batch.
        batch: usize,
        /// Sequences in the cache.
        cache: usize,
    },
    /// Padding in a batch that continues cached sequences.
    #[error("rows of unequal length cannot continue a cache: pad only the first batch")]
    PaddingAfterStart,
    /// A cache made by another implementation.
    #[error("the cache of layer {layer} was made by another implementation: use the cache that `new_cache` returns")]
    ForeignCache {
        /// The layer.
        layer: usize,
    },
    /// A value of another shape than its parameter.
    #[error("parameter `{parameter}` has shape {expected:?}, but a value of shape {found:?} was assigned to it")]
    ParameterShape {
        /// Path of the parameter.
        parameter: String,
        /// Shape in the module.
        expected: Vec<usize>,
        /// Shape of the value.
        found: Vec<usize>,
    },
    /// Parameters that nothing gave a value.
    #[error(
        "{} parameter(s) of the model got no value, `{}` first: its weight map must have every parameter of its module",
        parameters.len(), parameters.first().map_or("", String::as_str)
    )]
    UnfilledParameters {
        /// Their paths.
        parameters: Vec<String>,
    },
    /// A spec that the generic decoder cannot build.
    #[error("the generic decoder cannot build this model: {reason}")]
    UnsupportedSpec {
        /// What it cannot do.
        reason: String,
    },
    /// No factory is registered for a custom implementation.
    #[error(
        "the implementation `{implementation}` was chosen, but no factory builds it: register one, or force the generic \
         implementation"
    )]
    MissingFactory {
        /// Name of the implementation.
        implementation: String,
    },
    /// Token ids that could not be read back from the device.
    #[error("the chosen tokens could not be read from the device: it may be out of memory")]
    UnreadableTokens {
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync + 'static>,
    },
    /// Attention failed.
    #[error("attention failed in layer {layer}")]
    Attention {
        /// The layer.
        layer: usize,
        /// The cause.
        #[source]
        source: Box<automodel_attention::AttentionError>,
    },
    /// The config cannot be lowered; for factories that use the registry.
    #[error(transparent)]
    Registry(Box<automodel_registry::RegistryError>),
    /// The config lacks something; for factories that read it.
    #[error(transparent)]
    Config(Box<automodel_config::ConfigError>),
}

impl From<automodel_registry::RegistryError> for ModelError {
    fn from(error: automodel_registry::RegistryError) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl From<automodel_config::ConfigError> for ModelError {
    fn from(error: automodel_config::ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}
