#![doc = include_str!("../README.md")]

mod assembly;
mod cpu;
pub mod declared;
mod dense;
mod dtype;
mod error;
pub mod files;
mod joint;
mod linear;
mod product;
mod quantize;
mod repr;
mod scheme;
pub mod self_test;
mod weight;

pub use assembly::{Assembly, AssemblyError};
pub use declared::Declared;
pub use dense::{DenseMatrix, DenseOps, dense_product};
pub use dtype::{Element, Elements, OwnedElements, WeightDtype};
pub use error::QuantError;
pub use joint::{Joint, Quantized};
#[cfg(feature = "cube")]
pub use linear::WeightStack;
pub use linear::{Crossover, Linear4bitOps, QuantLinear, linear4bit};
pub use product::{MAX_MATVEC_ROWS, Precision, matmul, matvec, multiply};
pub use quantize::{DeviceQuantizer, DeviceWeight, Quantizer};
pub use repr::table16;
pub use scheme::{Cut, CutError, Part, PartSpec, Scheme};
pub use weight::QuantWeight;

// Names that the loader uses until it speaks of schemes.
pub use linear::{Device4bit, QuantLinear as Linear4bit};
pub use repr::table16::{
    Absmax, Blocksize, Layout4bit, Matrix4bit, NestedAbsmax, QuantType, Quantized4bit, dynamic_map, format,
};
