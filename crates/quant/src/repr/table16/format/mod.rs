//! The tensors in which bitsandbytes stores one 4-bit parameter.
//!
//! A parameter `P` (its name ends in `weight`) is a tensor `P` of packed codes, U8 unless `bnb_4bit_quant_storage` called the
//! bytes otherwise, with companions `P.absmax`, `P.quant_map`,
//! `P.quant_state.bitsandbytes__nf4` (or `__fp4`) and, with double quantisation, `P.nested_absmax` and `P.nested_quant_map`.

mod describe;
mod read;
mod state;
mod write;

use safetensors::Dtype;

pub use read::read_parameter;
pub use state::{NestedState, QuantState};
pub use write::write_parameter;

pub(crate) use describe::{describe, planned};

use super::QuantType;
use crate::QuantError;
pub use crate::files::{StoredTensor, TensorHeader};

impl TensorHeader {
    /// The error for a tensor of this name whose header is not the one that the quantisation state requires; `None` if it is.
    ///
    /// Codes may have any dtype of [`CODE_DTYPES`] that has room for them: `bnb_4bit_quant_storage` changes what their bytes are
    /// called, not what they are.
    pub fn fault(&self, dtype: Dtype, shape: &[usize]) -> Option<QuantError> {
        let part = Companion::parse(&self.name).map(|(_, part)| part);
        let fits = match part {
            None => codes_fit(&self.shape, dtype, shape),
            Some(_) => dtype == self.dtype && shape == self.shape,
        };
        if fits {
            return None;
        }
        let tensor = self.name.clone();
        // On processors with AVX-512 and bfloat16, bitsandbytes rearranges weights before their first use and leaves
        // transposed bfloat16 scales behind; a file saved after that cannot be read.
        if part == Some(Companion::Absmax) && (dtype == Dtype::BF16 || (dtype == Dtype::F32 && shape.len() == 2)) {
            return Some(QuantError::RepackedAbsmax { tensor, dtype: format!("{dtype:?}"), shape: shape.to_vec() });
        }
        let (expected, expected_shape) = (self.dtype, &self.shape);
        let any = if part.is_none() { " (or another dtype of as many bytes)" } else { "" };
        let problem = format!(
            "has dtype {dtype:?} and shape {shape:?}, but by its quantisation state {expected:?} and {expected_shape:?}{any} \
             are expected"
        );
        Some(QuantError::InvalidTensor { tensor, problem })
    }
}

/// The dtypes of codes in files, by `bnb_4bit_quant_storage`, with their size in bytes.
pub const CODE_DTYPES: [(Dtype, usize); 6] =
    [(Dtype::U8, 1), (Dtype::I8, 1), (Dtype::BF16, 2), (Dtype::F16, 2), (Dtype::F32, 4), (Dtype::F64, 8)];

/// Whether a column of `dtype` has exactly the bytes of the column of bytes `wanted`.
fn codes_fit(wanted: &[usize], dtype: Dtype, shape: &[usize]) -> bool {
    let (&[bytes, 1], &[rows, 1]) = (wanted, shape) else { return false };
    CODE_DTYPES.iter().any(|(known, size)| *known == dtype && rows.checked_mul(*size) == Some(bytes))
}

/// The content of a tensor of a quantised parameter.
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

    /// The suffix to the parameter's name.
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
    /// use automodel_quant::table16::format::Companion;
    /// assert_eq!(Companion::Absmax.of("model.norm.weight"), "model.norm.weight.absmax");
    /// ```
    pub fn of(self, parameter: &str) -> String {
        format!("{parameter}{}", self.suffix())
    }

    /// The parameter and the part of it that a tensor's name stands for; `None` if the name has no such ending.
    ///
    /// ```
    /// use automodel_quant::table16::format::Companion;
    /// assert_eq!(Companion::parse("q_proj.weight.quant_map"), Some(("q_proj.weight", Companion::QuantMap)));
    /// assert_eq!(Companion::parse("q_proj.weight"), None);
    /// ```
    pub fn parse(tensor: &str) -> Option<(&str, Self)> {
        Self::ALL.into_iter().find_map(|companion| Some((tensor.strip_suffix(companion.suffix())?, companion)))
    }
}
