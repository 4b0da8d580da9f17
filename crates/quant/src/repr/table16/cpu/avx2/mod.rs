//! AVX2, FMA and F16C.

mod decode;
mod dot;
mod encode;
mod fixed;

pub(super) use decode::{decode_bf16, decode_f16, decode_f32};
pub(crate) use dot::Decoder;
pub(super) use encode::quantize_blocks;
pub(super) use fixed::{dot_fixed, fixed_point};
