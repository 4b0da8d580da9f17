//! How weights are coded with a table: its choices, and the sizes that follow from them.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Blocksize, Layout4bit, QuantType, nested::NESTED_BLOCKSIZE};
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

    /// How the parts of a weight `[out, in]` are read.
    pub(crate) fn layout(self, shape: [usize; 2]) -> Layout4bit {
        Layout4bit { quant_type: self.quant_type, blocksize: self.blocksize, shape }
    }

    /// The parts of a weight with `elements` elements.
    pub(super) fn parts_of(self, elements: usize) -> Vec<PartSpec> {
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
