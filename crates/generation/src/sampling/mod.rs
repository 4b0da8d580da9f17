//! Sampling: from logits to the next token, with the logits processors of transformers' `generate` in its order.

mod batch;
mod candidates;
mod device;
mod options;
mod sampler;

pub(crate) use batch::BatchSampler;
pub use candidates::Candidates;
pub use device::DeviceSampler;
pub use options::SamplingOptions;
pub use sampler::Sampler;

use crate::GenerationError;
use burn::tensor::{Element, ExecutionError, TensorData};

/// Values that were read back from a device.
fn host_values<E: Element>(data: Result<TensorData, ExecutionError>) -> Result<Vec<E>, GenerationError> {
    data.map_err(|source| GenerationError::UnreadableLogits { source: Box::new(source) })?
        .try_into_vec()
        .map_err(|source| GenerationError::UnreadableLogits { source: format!("{source:?}").into() })
}
