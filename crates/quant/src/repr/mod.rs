//! One folder for each representation of quantised weights.

pub mod table16;
