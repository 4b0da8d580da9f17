//! How weights are coded with a table: its choices, and the sizes that follow from them.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Blocksize, QuantType, nested::NESTED_BLOCKSIZE};
use crate::scheme::{Part, PartSpec};

/// How a weight is coded with a table of 16 values. `Display`: `nf4, blocks of 64, double quantisation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Table16 {
    /// The code table.
    pub quant_type: QuantType,
    /// Elements that share a scale.
    #[serde(serialize_with = "as_number")]
    pub blocksize: Blocksize,
    /// Whether the scales are quantised too, to 8 bits.
    pub double_quant: bool,
}

impl Table16 {
    /// Blocks of 64, scales in float32.
    pub fn new(quant_type: QuantType) -> Self {
        Self { quant_type, blocksize: Blocksize::default(), double_quant: false }
    }

    /// With another number of elements that share a scale.
    pub fn with_blocksize(self, blocksize: Blocksize) -> Self {
        Self { blocksize, ..self }
    }

    /// With scales in 8 bits, or in float32.
    pub fn with_double_quant(self, double_quant: bool) -> Self {
        Self { double_quant, ..self }
    }

    /// The parts of a weight of so many elements.
    pub(crate) fn parts(self, elements: usize) -> Vec<PartSpec> {
        let blocks = self.blocksize.blocks(elements);
        let codes = PartSpec { part: Part::Codes, size: 1, len: elements.div_ceil(2) };
        let scales = |len| PartSpec { part: Part::Scales, size: 4, len };
        match self.double_quant {
            false => vec![codes, scales(blocks)],
            true => vec![
                codes,
                scales(blocks.div_ceil(NESTED_BLOCKSIZE)),
                PartSpec { part: Part::ScaleCodes, size: 1, len: blocks },
            ],
        }
    }

    /// Bytes besides the result while so many elements are quantised: scales are 4 bytes until they become one.
    pub(crate) fn transient_bytes(self, elements: usize) -> u64 {
        if self.double_quant { (self.blocksize.blocks(elements) as u64).saturating_mul(4) } else { 0 }
    }

    /// Bytes while parts of a weight of so many elements are quantised together: scales in float32 until all parts are there, once
    /// by part, once joined, once decoded.
    pub(crate) fn joint_bytes(self, elements: u64) -> u64 {
        elements.div_ceil(self.blocksize.get() as u64).saturating_mul(3 * 4)
    }
}

impl fmt::Display for Table16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, blocks of {}", self.quant_type.name(), self.blocksize.get())?;
        f.write_str(if self.double_quant { ", double quantisation" } else { "" })
    }
}

fn as_number<S: Serializer>(blocksize: &Blocksize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(blocksize.get() as u64)
}
