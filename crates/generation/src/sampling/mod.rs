//! From logits to the next token, in the order and with the rules of transformers' `generate`.

mod candidates;
mod chooser;
mod device;
mod options;
mod sampler;

pub use candidates::Candidates;
pub(crate) use chooser::Chooser;
pub use device::DeviceSampler;
pub use options::SamplingOptions;
pub use sampler::Sampler;

use crate::GenerationError;
use burn::tensor::{Element, ExecutionError, TensorData};

/// What was read from a device.
fn host_values<E: Element>(data: Result<TensorData, ExecutionError>) -> Result<Vec<E>, GenerationError> {
    data.map_err(|source| GenerationError::UnreadableLogits { source: Box::new(source) })?
        .try_into_vec()
        .map_err(|source| GenerationError::UnreadableLogits { source: format!("{source:?}").into() })
}
