//! The first decoders: layer norms, packed projections.

pub mod gpt2;
pub mod gpt_neox;
