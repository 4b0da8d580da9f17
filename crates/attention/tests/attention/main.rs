//! Tests through the public interface, in one binary.

mod cache;
mod errors;
mod matches_reference;
mod reference;
mod rope;
mod sdpa;
