//! AVX-512 F and BW.

mod dense;
mod dot;
mod group;

pub(super) use dense::{dot_dense, load_bf16, load_f16, load_f32};
pub(crate) use dot::{Decode, VECTORS};
pub(super) use dot::{dot, reorder};
pub(crate) use group::{GROUP, Groups, padded};
