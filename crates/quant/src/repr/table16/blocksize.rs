//! The number of consecutive elements that share a scale.

use crate::QuantError;

/// Elements that share one `absmax`: a power of two from 32 to 4096.
///
/// ```
/// use automodel_quant::table16::Blocksize;
/// assert_eq!(Blocksize::default().get(), 64);
/// assert!(Blocksize::new(48).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocksize(u16);

impl Blocksize {
    /// # Errors
    /// [`QuantError::InvalidBlocksize`] for anything but 32, 64, 128, 256, 512, 1024, 2048 and 4096.
    pub fn new(blocksize: usize) -> Result<Self, QuantError> {
        match u16::try_from(blocksize) {
            Ok(valid @ 32..=4096) if valid.is_power_of_two() => Ok(Self(valid)),
            _ => Err(QuantError::InvalidBlocksize { blocksize }),
        }
    }

    /// Elements of one block.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    /// Number of blocks of a weight with `elements` elements, the last one perhaps short.
    pub fn blocks(self, elements: usize) -> usize {
        elements.div_ceil(self.get())
    }
}

impl Default for Blocksize {
    /// 64, as in bitsandbytes.
    fn default() -> Self {
        Self(64)
    }
}
