//! What can be wrong with a declaration of quantised weights.

use thiserror::Error;

/// What can be wrong with a declaration of quantised weights.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A `quantization_config` that cannot be understood.
    #[error("quantization_config{}: {problem}", key.as_ref().map(|key| format!(".{key}")).unwrap_or_default())]
    InvalidConfig {
        /// The key within it.
        key: Option<String>,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// Weights stored in a way that cannot be read.
    #[error(
        "the weights of this checkpoint are stored with quantisation method `{method}` ({description}), which cannot be \
         read: take the checkpoint that it was made from, in float32, float16 or bfloat16"
    )]
    UnsupportedMethod {
        /// `quant_method`, with its variant.
        method: String,
        /// What the method is.
        description: String,
    },
}
