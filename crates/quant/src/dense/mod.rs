//! Weights that stay in the float type of their file.

mod matrix;
mod ops;

pub use matrix::DenseMatrix;
pub use ops::{DenseOps, dense_product};
