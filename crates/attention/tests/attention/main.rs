//! Tests through the public interface, in one binary.

mod errors;
mod kv_cache;
mod matches_reference;
mod reference;
mod rope;
mod sdpa;
