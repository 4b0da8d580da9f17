#![doc = include_str!("../README.md")]

#[cfg(test)]
mod auto_traits;
mod blocksize;
mod codebook;
mod config;
mod dtype;
mod error;
pub mod format;
mod kernels;
mod linear;
mod nested;
mod product;
mod quantized;
mod quantizer;
pub mod self_test;

pub use blocksize::Blocksize;
pub use config::{BitsAndBytes4bit, CheckpointQuantization, QuantType};
pub use dtype::{Element, Elements, WeightDtype};
pub use error::QuantError;
#[cfg(feature = "cube")]
pub use linear::WeightStack;
pub use linear::{
    Crossover, DenseOps, Device4bit, DeviceQuantizer, Linear4bit, Linear4bitOps, dense_product, linear4bit,
};
pub use nested::{NestedAbsmax, dynamic_map};
pub use product::{DenseMatrix, MAX_MATVEC_ROWS, Matrix4bit, Precision, matmul, matvec, multiply};
pub use quantized::{Absmax, Layout4bit, OwnedElements, Quantized4bit};
pub use quantizer::Quantizer;
