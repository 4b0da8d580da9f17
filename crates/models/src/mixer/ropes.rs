//! The rotary embeddings of a model, each distinct one once.

use super::convert;
use crate::ModelError;
use automodel_attention::{Rope, RopeConfig};
use automodel_registry::spec::{RopeScaling, RopeSpec};

/// Collects the rotary embeddings of a model's layers.
#[derive(Debug, Default)]
pub(crate) struct Ropes {
    configs: Vec<RopeConfig>,
    cache_valid_to: Option<usize>,
}

impl Ropes {
    /// The index of a rotary embedding of heads of width `head_dim` among those of the model.
    pub fn index_of(&mut self, head_dim: usize, spec: &RopeSpec) -> usize {
        if let RopeScaling::LongRope(scaling) = &spec.scaling {
            let limits = self.cache_valid_to.into_iter().chain(scaling.cache_valid_to);
            self.cache_valid_to = limits.min();
        }
        let config = convert::rope(head_dim, spec);
        self.configs.iter().position(|known| *known == config).unwrap_or_else(|| {
            self.configs.push(config);
            self.configs.len() - 1
        })
    }

    /// The shortest length beyond which cached keys of some layer do not hold.
    pub fn cache_valid_to(&self) -> Option<usize> {
        self.cache_valid_to
    }

    /// The rotary embeddings, by index.
    ///
    /// # Errors
    /// [`ModelError::UnsupportedSpec`] for parameters that make no sense.
    pub fn finish(self) -> Result<Vec<Rope>, ModelError> {
        let ropes = self.configs.into_iter().map(Rope::new).collect::<Result<_, _>>();
        ropes.map_err(|source| ModelError::UnsupportedSpec { reason: source.to_string() })
    }
}
