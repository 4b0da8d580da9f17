//! Helpers for the tests of several crates. Nothing here depends on a crate of the workspace, so that any of them can use it.

pub mod checkpoints;
pub mod compare;
mod derived;
pub mod fixtures;
pub mod gpu;
