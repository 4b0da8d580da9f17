//! Element types of tensors in files.

use automodel_quant::WeightDtype;
use burn::tensor::{DType, FloatDType};
use safetensors::Dtype as Theirs;
use serde::{Serialize, Serializer};
use std::fmt;

/// Element type of a tensor in a safetensors file. The list is that of the format's reference implementation, 0.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the format")]
pub enum StoredDtype {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    F8E4M3Fnuz,
    F8E5M2Fnuz,
    F6E2M3,
    F6E3M2,
    F4,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    C64,
}

/// Each with its name in headers, its bits, and its equal in the safetensors crate.
const ALL: [(StoredDtype, &str, u8, Theirs); 22] = [
    (StoredDtype::F64, "F64", 64, Theirs::F64),
    (StoredDtype::F32, "F32", 32, Theirs::F32),
    (StoredDtype::F16, "F16", 16, Theirs::F16),
    (StoredDtype::BF16, "BF16", 16, Theirs::BF16),
    (StoredDtype::F8E4M3, "F8_E4M3", 8, Theirs::F8_E4M3),
    (StoredDtype::F8E5M2, "F8_E5M2", 8, Theirs::F8_E5M2),
    (StoredDtype::F8E8M0, "F8_E8M0", 8, Theirs::F8_E8M0),
    (StoredDtype::F8E4M3Fnuz, "F8_E4M3FNUZ", 8, Theirs::F8_E4M3FNUZ),
    (StoredDtype::F8E5M2Fnuz, "F8_E5M2FNUZ", 8, Theirs::F8_E5M2FNUZ),
    (StoredDtype::F6E2M3, "F6_E2M3", 6, Theirs::F6_E2M3),
    (StoredDtype::F6E3M2, "F6_E3M2", 6, Theirs::F6_E3M2),
    (StoredDtype::F4, "F4", 4, Theirs::F4),
    (StoredDtype::I64, "I64", 64, Theirs::I64),
    (StoredDtype::I32, "I32", 32, Theirs::I32),
    (StoredDtype::I16, "I16", 16, Theirs::I16),
    (StoredDtype::I8, "I8", 8, Theirs::I8),
    (StoredDtype::U64, "U64", 64, Theirs::U64),
    (StoredDtype::U32, "U32", 32, Theirs::U32),
    (StoredDtype::U16, "U16", 16, Theirs::U16),
    (StoredDtype::U8, "U8", 8, Theirs::U8),
    (StoredDtype::Bool, "BOOL", 8, Theirs::BOOL),
    (StoredDtype::C64, "C64", 64, Theirs::C64),
];

impl StoredDtype {
    /// The type of that name in a header, `BF16` for instance.
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known, ..)| *known == name).map(|(dtype, ..)| *dtype)
    }

    /// Its name in a header.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// Bits per element.
    pub fn bits(self) -> u64 {
        u64::from(self.entry().2)
    }

    /// Bytes of `elements` elements; `None` on overflow or if they do not fill whole bytes.
    pub fn bytes_for(self, elements: u64) -> Option<u64> {
        let bits = elements.checked_mul(self.bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// The same type in the safetensors crate.
    pub(crate) fn as_safetensors(self) -> Theirs {
        self.entry().3
    }

    /// The type of the safetensors crate; `None` if that has more of them.
    pub(crate) fn from_safetensors(dtype: Theirs) -> Option<Self> {
        ALL.iter().find(|entry| entry.3 == dtype).map(|entry| entry.0)
    }

    /// The float type that Burn computes with, for the four that have one.
    pub fn float(self) -> Option<FloatDType> {
        match self {
            Self::F64 => Some(FloatDType::F64),
            Self::F32 => Some(FloatDType::F32),
            Self::F16 => Some(FloatDType::F16),
            Self::BF16 => Some(FloatDType::BF16),
            _ => None,
        }
    }

    /// Whether it is a float type of 8 bits or fewer, whose values mean something only together with scales.
    pub fn is_low_precision_float(self) -> bool {
        matches!(
            self,
            Self::F8E4M3
                | Self::F8E5M2
                | Self::F8E8M0
                | Self::F8E4M3Fnuz
                | Self::F8E5M2Fnuz
                | Self::F6E2M3
                | Self::F6E3M2
                | Self::F4
        )
    }

    fn entry(self) -> (Self, &'static str, u8, Theirs) {
        // The table is in the order of the variants, see the test.
        ALL[self as usize]
    }
}

impl From<FloatDType> for StoredDtype {
    fn from(dtype: FloatDType) -> Self {
        match dtype {
            FloatDType::F64 => Self::F64,
            FloatDType::F32 | FloatDType::Flex32 => Self::F32,
            FloatDType::F16 => Self::F16,
            FloatDType::BF16 => Self::BF16,
        }
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for StoredDtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The name of a float type as configs spell it: `bfloat16`.
pub fn float_name(dtype: FloatDType) -> &'static str {
    match dtype {
        FloatDType::F64 => "float64",
        FloatDType::F32 => "float32",
        FloatDType::Flex32 => "flex32",
        FloatDType::F16 => "float16",
        FloatDType::BF16 => "bfloat16",
    }
}

/// The dtype that a weight of a float type is quantised from: its own, except that float64 becomes float32.
pub(crate) fn weight_dtype(stored: FloatDType) -> WeightDtype {
    match stored {
        FloatDType::F16 => WeightDtype::Float16,
        FloatDType::BF16 => WeightDtype::BFloat16,
        FloatDType::F64 | FloatDType::F32 | FloatDType::Flex32 => WeightDtype::Float32,
    }
}

/// Bytes of one element.
pub(crate) fn float_size(dtype: FloatDType) -> usize {
    DType::from(dtype).size()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_are_those_of_the_safetensors_crate() {
        for (dtype, name, bits, equal) in ALL {
            let theirs: safetensors::Dtype = serde_json::from_value(name.into()).unwrap();
            assert_eq!((theirs, theirs.bitsize()), (equal, usize::from(bits)), "{name}");
            assert_eq!(StoredDtype::from_safetensors(theirs), Some(dtype));
            assert_eq!(StoredDtype::from_name(name), Some(dtype));
            assert_eq!((dtype.name(), dtype.bits()), (name, u64::from(bits)));
        }
        assert_eq!(StoredDtype::from_name("F99"), None);
    }

    #[test]
    fn bytes_are_whole_and_do_not_overflow() {
        assert_eq!(StoredDtype::F4.bytes_for(6), Some(3));
        assert_eq!(StoredDtype::F4.bytes_for(7), None);
        assert_eq!(StoredDtype::F32.bytes_for(u64::MAX / 8), None);
    }
}
