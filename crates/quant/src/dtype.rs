//! The floating-point types of weights before quantisation.

use std::fmt;

use half::{bf16, f16};
use serde::Serialize;

use crate::cpu::Float;

/// The type that a weight had before it was quantised, and that it dequantises to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// IEEE single precision.
    Float32,
    /// IEEE half precision.
    Float16,
    /// The upper half of single precision.
    BFloat16,
}

impl WeightDtype {
    /// The type of a tensor's elements, if they can be quantised.
    pub fn of(dtype: burn::tensor::DType) -> Option<Self> {
        match dtype {
            burn::tensor::DType::F32 => Some(Self::Float32),
            burn::tensor::DType::F16 => Some(Self::Float16),
            burn::tensor::DType::BF16 => Some(Self::BFloat16),
            _ => None,
        }
    }

    /// The type of floats in Burn.
    pub fn float(self) -> burn::tensor::FloatDType {
        match self {
            Self::Float32 => burn::tensor::FloatDType::F32,
            Self::Float16 => burn::tensor::FloatDType::F16,
            Self::BFloat16 => burn::tensor::FloatDType::BF16,
        }
    }

    /// PyTorch's name without `torch.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::BFloat16 => "bfloat16",
        }
    }

    /// The type of this name (as [`WeightDtype::name`] has it).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Float32, Self::Float16, Self::BFloat16].into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for WeightDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A window of weights to quantise, in row-major order.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// float32
    F32(&'a [f32]),
    /// float16
    F16(&'a [f16]),
    /// bfloat16
    BF16(&'a [bf16]),
}

impl Elements<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::BF16(values) => values.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    pub fn dtype(&self) -> WeightDtype {
        match self {
            Self::F32(_) => WeightDtype::Float32,
            Self::F16(_) => WeightDtype::Float16,
            Self::BF16(_) => WeightDtype::BFloat16,
        }
    }
}

impl<'a> From<&'a [f32]> for Elements<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [f16]> for Elements<'a> {
    fn from(values: &'a [f16]) -> Self {
        Self::F16(values)
    }
}

impl<'a> From<&'a [bf16]> for Elements<'a> {
    fn from(values: &'a [bf16]) -> Self {
        Self::BF16(values)
    }
}

/// Dense elements of one of three types.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedElements {
    /// float32
    F32(Vec<f32>),
    /// float16
    F16(Vec<f16>),
    /// bfloat16
    BF16(Vec<bf16>),
}

/// `f32`, [`struct@f16`] or [`bf16`]: what weights can be before and after quantisation.
///
/// Sealed: kernels exist for these three only.
pub trait Element: Float {
    /// Which of the three.
    const DTYPE: WeightDtype;

    /// Room for values, of this type.
    #[doc(hidden)]
    fn elements_mut(values: &mut [Self]) -> ElementsMut<'_>;
}

/// Room for the values of a weight, of one of three types.
#[doc(hidden)]
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// float32
    F32(&'a mut [f32]),
    /// float16
    F16(&'a mut [f16]),
    /// bfloat16
    BF16(&'a mut [bf16]),
}

impl Element for f32 {
    const DTYPE: WeightDtype = WeightDtype::Float32;

    fn elements_mut(values: &mut [Self]) -> ElementsMut<'_> {
        ElementsMut::F32(values)
    }
}

impl Element for f16 {
    const DTYPE: WeightDtype = WeightDtype::Float16;

    fn elements_mut(values: &mut [Self]) -> ElementsMut<'_> {
        ElementsMut::F16(values)
    }
}

impl Element for bf16 {
    const DTYPE: WeightDtype = WeightDtype::BFloat16;

    fn elements_mut(values: &mut [Self]) -> ElementsMut<'_> {
        ElementsMut::BF16(values)
    }
}
