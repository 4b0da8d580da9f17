//! AVX2, FMA and F16C.

pub(super) mod convert;
pub(super) mod decode;
mod dense;
mod dot;
mod encode;
mod fixed;

pub(super) use dense::{dot_dense, widen};
pub(super) use dot::{dot, reorder};
pub(super) use encode::quantize_blocks;
pub(super) use fixed::{dot_fixed, fixed_point};
