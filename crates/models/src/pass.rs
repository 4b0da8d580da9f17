//! What all layers of one forward pass share.

#[cfg(feature = "cube")]
use automodel_attention::step::{StepPosition, StepRope};
use automodel_attention::{KeysAndValues, Positions, RopeTables, SdpaBackend};
use burn::tensor::Tensor;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What all layers of one forward pass share.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is borrowed")]
pub(crate) enum Pass<'a> {
    /// Any number of tokens after those of the cache: prefill, and decoding token by token.
    Tokens {
        /// Where the tokens stand.
        positions: Positions,
        /// Cosines and sines of these positions, of each distinct rotary embedding.
        ropes: &'a [RopeTables],
        /// How attention is computed.
        backend: SdpaBackend,
        /// Keys and values that later layers attend to.
        key_values: SharedKeyValues,
        /// The embeddings that the tokens have for each layer, `[batch, length, layers, width]`.
        layer_embeddings: Option<Tensor<4>>,
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

/// Keys and values of the layers whose later layers attend to them, for one pass: they are dropped before the next one appends to
/// the caches that they are views of.
#[derive(Debug, Default)]
pub(crate) struct SharedKeyValues(RefCell<BTreeMap<usize, Option<KeysAndValues>>>);

impl SharedKeyValues {
    /// To be filled by these layers.
    pub fn of(layers: &[usize]) -> Self {
        Self(RefCell::new(layers.iter().map(|&layer| (layer, None)).collect()))
    }

    /// Keeps those of a layer, if a later one attends to them.
    pub fn keep(&self, layer: usize, key_values: &KeysAndValues) {
        if let Some(kept) = self.0.borrow_mut().get_mut(&layer) {
            *kept = Some(key_values.clone());
        }
    }

    /// Those of an earlier layer.
    pub fn get(&self, layer: usize) -> Option<KeysAndValues> {
        self.0.borrow().get(&layer).cloned().flatten()
    }
}
