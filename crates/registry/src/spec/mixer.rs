//! How positions exchange information, and what that keeps of a sequence.

use super::{AttentionMask, AttentionSpec, Declare, MlaSpec, ShortConvSpec};
use serde::Serialize;

/// How positions exchange information.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(clippy::large_enum_variant, reason = "specifications are few and are not moved about")]
pub enum Mixer {
    /// Softmax attention.
    Attention(AttentionSpec),
    /// Softmax attention over latents.
    Mla(MlaSpec),
    /// A gated short convolution.
    ShortConv(ShortConvSpec),
}

/// What a mixer keeps of one sequence between passes, counted in activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheSpec {
    /// Elements for each position that is kept: keys and values, or what they are made of.
    pub per_position: usize,
    /// Only this many of the last positions are kept; `None` keeps all.
    pub window: Option<usize>,
    /// Elements that are kept whatever the length of the sequence.
    pub fixed: usize,
}

impl Mixer {
    /// The attention over keys and values of heads, if it is one.
    pub fn attention(&self) -> Option<&AttentionSpec> {
        match self {
            Self::Attention(attention) => Some(attention),
            Self::Mla(_) | Self::ShortConv(_) => None,
        }
    }

    /// Which positions a position sees, if it is attention.
    pub fn mask(&self) -> Option<AttentionMask> {
        match self {
            Self::Attention(attention) => Some(attention.mask),
            Self::Mla(mla) => Some(mla.mask),
            Self::ShortConv(_) => None,
        }
    }

    /// What its branch is called in a layer: `self_attn`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Attention(_) | Self::Mla(_) => "self_attn",
            Self::ShortConv(_) => "conv",
        }
    }

    pub(super) fn validate(&self, hidden_size: usize) -> Result<(), String> {
        match self {
            Self::Attention(attention) => attention.validate(hidden_size),
            Self::Mla(mla) => mla.validate(hidden_size),
            Self::ShortConv(conv) => conv.validate(hidden_size),
        }
    }

    /// Declares its parameters.
    pub fn declare(&self, hidden_size: usize, to: &mut Declare<'_>) {
        match self {
            Self::Attention(attention) => attention.declare(hidden_size, to),
            Self::Mla(mla) => mla.declare(hidden_size, to),
            Self::ShortConv(conv) => conv.declare(hidden_size, to),
        }
    }

    /// What it keeps of a sequence.
    pub fn cache(&self, hidden_size: usize) -> CacheSpec {
        match self {
            Self::Attention(attention) => CacheSpec::of_positions(attention.cached_elements(), attention.mask),
            // Not the keys and values, but what they are made of.
            Self::Mla(mla) => CacheSpec::of_positions(mla.kept_elements(), mla.mask),
            Self::ShortConv(conv) => CacheSpec { fixed: conv.state_elements(hidden_size), ..CacheSpec::default() },
        }
    }
}

impl CacheSpec {
    /// `per_position` elements of each position that later queries see.
    fn of_positions(per_position: usize, mask: AttentionMask) -> Self {
        match mask {
            // The whole sequence is in the pass: there is no later query to keep keys for.
            AttentionMask::Bidirectional => Self::default(),
            AttentionMask::Sliding { window } => Self { per_position, window: Some(window), fixed: 0 },
            AttentionMask::Full | AttentionMask::Chunked { .. } => Self { per_position, window: None, fixed: 0 },
        }
    }

    /// Elements that a sequence of `positions` takes, in buffers made for that many. A window keeps the positions before the newest
    /// in a rolling buffer, whose capacity for that many positions `rolling_capacity` gives.
    pub fn elements(&self, positions: usize, rolling_capacity: impl Fn(usize) -> usize) -> u64 {
        let kept = match self.window {
            Some(window) if positions > window => rolling_capacity(window.saturating_sub(1)),
            _ => positions,
        };
        (self.per_position as u64).saturating_mul(kept as u64).saturating_add(self.fixed as u64)
    }

    /// Elements that each further position takes in the long run.
    pub fn elements_per_token(&self) -> u64 {
        if self.window.is_some() { 0 } else { self.per_position as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_bound_what_is_kept() {
        let elements = |cache: CacheSpec, positions| cache.elements(positions, |past| past + 7);
        let cache = CacheSpec { per_position: 8, window: Some(100), fixed: 0 };
        assert_eq!([100, 101, usize::MAX].map(|positions| elements(cache, positions)), [800, 8 * 106, 8 * 106]);
        assert_eq!(cache.elements_per_token(), 0);
        let all = CacheSpec { window: None, ..cache };
        assert_eq!((elements(all, 101), all.elements_per_token()), (808, 8));
        let state = CacheSpec { fixed: 7, ..CacheSpec::default() };
        assert_eq!((elements(state, 1), elements(state, 1 << 20), state.elements_per_token()), (7, 7, 0));
    }
}
