//! What a layer computes beside its products, in one pass over float32 tensors of Burn's CPU backend.
//!
//! Each function works in the memory of its first argument where nothing else holds it, runs in parallel where that is
//! large, and returns its first argument where the plain tensor operations of the caller have to do: on other devices,
//! for other dtypes, and where gradients are tracked.

#![allow(clippy::result_large_err, reason = "the error is the argument, returned")]

mod activation;
mod add;
mod norm;
mod rows;

pub(crate) use activation::{activated, gated};
pub(crate) use add::{add_scaled, add_to_rows};
pub(crate) use norm::{NormPass, normalized};
