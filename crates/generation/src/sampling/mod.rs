//! From logits to the next token, in the order and with the rules of transformers' `generate`.

mod candidates;
mod options;
mod sampler;

pub use candidates::Candidates;
pub use options::SamplingOptions;
pub use sampler::Sampler;
