//! LG's EXAONE models: norms on heads; full layers do not rotate where others have a window.

pub mod exaone4;
pub mod exaone_moe;

use super::prelude::*;

/// Which layers have a window if `layer_types` does not say: every n-th has none, or a word of `L` and `G` repeats.
enum SlidingPattern {
    Never,
    EveryNth(usize),
    Word(Vec<u8>),
}

impl SlidingPattern {
    fn read(config: &FamilyConfig<'_>, windowed: bool) -> Result<Self, RegistryError> {
        let value = config.value("sliding_window_pattern");
        let word = value.as_ref().and_then(|value| value.as_str()).map(|word| word.as_bytes().to_vec());
        Ok(match word {
            _ if !windowed => Self::Never,
            Some(word) if !word.is_empty() && word.iter().all(|letter| b"LG".contains(letter)) => Self::Word(word),
            Some(_) => {
                let reason = "a word of L (window) and G (no window), or a number, is expected";
                return Err(config.unsupported("sliding_window_pattern", reason));
            }
            None => Self::EveryNth(sliding_window_pattern(config, 4)?),
        })
    }

    fn layer_type(&self, index: usize) -> &'static str {
        let sliding = match self {
            Self::Never => false,
            Self::EveryNth(n) => !(index + 1).is_multiple_of(*n),
            Self::Word(word) => word[index % word.len()] == b'L',
        };
        if sliding { "sliding_attention" } else { "full_attention" }
    }
}
