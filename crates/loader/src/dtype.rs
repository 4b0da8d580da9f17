//! Element types of tensors in files.

use automodel_quant::WeightDtype;
use burn::tensor::{DType, FloatDType};
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

const ALL: [(StoredDtype, &str, u8); 22] = [
    (StoredDtype::F64, "F64", 64),
    (StoredDtype::F32, "F32", 32),
    (StoredDtype::F16, "F16", 16),
    (StoredDtype::BF16, "BF16", 16),
    (StoredDtype::F8E4M3, "F8_E4M3", 8),
    (StoredDtype::F8E5M2, "F8_E5M2", 8),
    (StoredDtype::F8E8M0, "F8_E8M0", 8),
    (StoredDtype::F8E4M3Fnuz, "F8_E4M3FNUZ", 8),
    (StoredDtype::F8E5M2Fnuz, "F8_E5M2FNUZ", 8),
    (StoredDtype::F6E2M3, "F6_E2M3", 6),
    (StoredDtype::F6E3M2, "F6_E3M2", 6),
    (StoredDtype::F4, "F4", 4),
    (StoredDtype::I64, "I64", 64),
    (StoredDtype::I32, "I32", 32),
    (StoredDtype::I16, "I16", 16),
    (StoredDtype::I8, "I8", 8),
    (StoredDtype::U64, "U64", 64),
    (StoredDtype::U32, "U32", 32),
    (StoredDtype::U16, "U16", 16),
    (StoredDtype::U8, "U8", 8),
    (StoredDtype::Bool, "BOOL", 8),
    (StoredDtype::C64, "C64", 64),
];

impl StoredDtype {
    /// The type of that name in a header, `BF16` for instance.
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known, _)| *known == name).map(|(dtype, ..)| *dtype)
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

    /// The type as the safetensors crate has it, of the types that stored 4-bit parameters consist of, codes in whatever
    /// `bnb_4bit_quant_storage` says; `None` for others.
    pub(crate) fn of_quantized(self) -> Option<safetensors::Dtype> {
        use safetensors::Dtype;
        match self {
            Self::U8 => Some(Dtype::U8),
            Self::I8 => Some(Dtype::I8),
            Self::BF16 => Some(Dtype::BF16),
            Self::F16 => Some(Dtype::F16),
            Self::F32 => Some(Dtype::F32),
            Self::F64 => Some(Dtype::F64),
            _ => None,
        }
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

    fn entry(self) -> (Self, &'static str, u8) {
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

/// The name of a float type as configs spell it.
pub(crate) fn float_name(dtype: FloatDType) -> &'static str {
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
        for (dtype, name, bits) in ALL {
            let theirs: safetensors::Dtype = serde_json::from_value(name.into()).unwrap();
            assert_eq!(theirs.bitsize(), usize::from(bits), "{name}");
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
