//! The floating-point type of the weights.

use std::fmt;

use serde_json::Value;

use crate::{ConfigError, ConfigWarning, ResolvedConfig};

/// A floating-point type that weights are stored or computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FloatType {
    /// IEEE double precision.
    Float64,
    /// IEEE single precision.
    Float32,
    /// IEEE half precision.
    Float16,
    /// The upper half of single precision.
    BFloat16,
}

impl FloatType {
    /// The type that PyTorch calls by this name, with or without `torch.` before it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.strip_prefix("torch.").unwrap_or(name) {
            "float64" | "double" => Some(FloatType::Float64),
            "float32" | "float" => Some(FloatType::Float32),
            "float16" | "half" => Some(FloatType::Float16),
            "bfloat16" => Some(FloatType::BFloat16),
            _ => None,
        }
    }

    /// Name in config files.
    pub fn name(self) -> &'static str {
        match self {
            FloatType::Float64 => "float64",
            FloatType::Float32 => "float32",
            FloatType::Float16 => "float16",
            FloatType::BFloat16 => "bfloat16",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            FloatType::Float64 => 8,
            FloatType::Float32 => 4,
            FloatType::Float16 | FloatType::BFloat16 => 2,
        }
    }
}

impl fmt::Display for FloatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ResolvedConfig {
    /// `dtype`, or `torch_dtype` when it is null or absent; `None` when neither is given or it is "auto".
    ///
    /// # Errors
    /// The value is not a string, or names a type that is not floating-point ([`ConfigError::InvalidValue`]).
    pub fn dtype(&self) -> Result<Option<FloatType>, ConfigError> {
        let expected = "a floating-point type: \"float32\", \"float16\", \"bfloat16\" or \"float64\"";
        let keys = ["dtype", "torch_dtype"].map(|key| (key, self.value(key).filter(|value| !value.is_null())));
        let (key, value) = match keys {
            [(_, Some(current)), (_, Some(legacy))] if dtype_of(current) != dtype_of(legacy) => {
                self.warn(ConfigWarning::DtypeConflict);
                ("dtype", current)
            }
            [(key, Some(value)), _] | [(_, None), (key, Some(value))] => (key, value),
            [(_, None), (_, None)] => return Ok(None),
        };
        match value.as_str() {
            Some("auto") => Ok(None),
            _ => dtype_of(value).map(Some).ok_or_else(|| self.invalid(key, value, expected)),
        }
    }
}

fn dtype_of(value: &Value) -> Option<FloatType> {
    value.as_str().and_then(FloatType::from_name)
}
