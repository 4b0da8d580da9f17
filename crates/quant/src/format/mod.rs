//! The tensors in which bitsandbytes stores one 4-bit parameter.
//!
//! A parameter `P` (its name ends in `weight`) is a U8 tensor `P` of packed codes with companions `P.absmax`, `P.quant_map`,
//! `P.quant_state.bitsandbytes__nf4` (or `__fp4`) and, with double quantisation, `P.nested_absmax` and `P.nested_quant_map`.

mod read;
mod state;
mod write;

use bytes::Bytes;
use safetensors::Dtype;

pub use read::read_parameter;
pub use state::{NestedState, QuantState};
pub use write::write_parameter;

use crate::QuantType;

/// A tensor of a file: its header and its little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
    /// The elements in row-major order; a clone shares them.
    pub data: Bytes,
}

/// The header of a tensor that a parameter of some state has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// Name in the file.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
}

/// What a tensor of a quantised parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Companion {
    /// `.absmax`: the scales.
    Absmax,
    /// `.quant_map`: the code table.
    QuantMap,
    /// `.nested_absmax`: the scales of the scales.
    NestedAbsmax,
    /// `.nested_quant_map`: the code table of the scales.
    NestedQuantMap,
    /// `.quant_state.bitsandbytes__nf4` or `__fp4`: JSON.
    State(QuantType),
}

impl Companion {
    const ALL: [Self; 6] = [
        Self::Absmax,
        Self::QuantMap,
        Self::NestedAbsmax,
        Self::NestedQuantMap,
        Self::State(QuantType::Nf4),
        Self::State(QuantType::Fp4),
    ];

    /// What follows the parameter's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Absmax => ".absmax",
            Self::QuantMap => ".quant_map",
            Self::NestedAbsmax => ".nested_absmax",
            Self::NestedQuantMap => ".nested_quant_map",
            Self::State(QuantType::Nf4) => ".quant_state.bitsandbytes__nf4",
            Self::State(QuantType::Fp4) => ".quant_state.bitsandbytes__fp4",
        }
    }

    /// Name of the tensor for a parameter.
    ///
    /// ```
    /// use automodel_quant::format::Companion;
    /// assert_eq!(Companion::Absmax.of("model.norm.weight"), "model.norm.weight.absmax");
    /// ```
    pub fn of(self, parameter: &str) -> String {
        format!("{parameter}{}", self.suffix())
    }

    /// The parameter and the part of it that a tensor's name stands for; `None` if the name has no such ending.
    ///
    /// ```
    /// use automodel_quant::format::Companion;
    /// assert_eq!(Companion::parse("q_proj.weight.quant_map"), Some(("q_proj.weight", Companion::QuantMap)));
    /// assert_eq!(Companion::parse("q_proj.weight"), None);
    /// ```
    pub fn parse(tensor: &str) -> Option<(&str, Self)> {
        Self::ALL.into_iter().find_map(|companion| Some((tensor.strip_suffix(companion.suffix())?, companion)))
    }
}
