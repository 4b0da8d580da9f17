//! AVX-512 F and BW.

mod dense;
mod dot;
mod fixed;
mod group;

pub(super) use dense::{dot_dense, load_bf16, load_f16, load_f32};
pub(super) use dot::{dot, reorder};
pub(super) use fixed::{dot_fixed, fixed_point};
