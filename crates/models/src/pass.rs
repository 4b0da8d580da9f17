//! What all layers of one forward pass share.

#[cfg(feature = "cube")]
use automodel_attention::step::{StepPosition, StepRope};
use automodel_attention::{Positions, RopeTables, SdpaBackend};

/// What all layers of one forward pass share.
pub(crate) enum Pass<'a> {
    /// Any number of tokens after those of the cache: prefill, and decoding token by token.
    Tokens {
        /// Where the tokens stand.
        positions: Positions,
        /// Cosines and sines of these positions, of each distinct rotary embedding.
        ropes: &'a [RopeTables],
        /// How attention is computed.
        backend: SdpaBackend,
    },
    /// One token of each sequence over buffers of fixed capacity, whose position is read on the device: can be captured.
    #[cfg(feature = "cube")]
    Step {
        /// Where the token stands.
        at: &'a StepPosition,
        /// Cosines and sines of all positions, of each distinct rotary embedding.
        ropes: &'a [StepRope],
    },
}
