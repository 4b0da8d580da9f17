//! feature anchor.
