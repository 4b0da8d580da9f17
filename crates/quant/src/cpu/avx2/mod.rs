//! AVX2, FMA and F16C.

pub(super) mod convert;
mod dense;
mod dot;

pub(super) use dense::{dot_dense, widen};
pub(crate) use dot::{AHEAD, Decode, add_lanes};
pub(super) use dot::{dot, reorder};
