#![doc = include_str!("../README.md")]

mod assembly;
pub mod declared;
mod dtype;
mod error;
pub mod files;
mod joint;
mod kernels;
mod linear;
mod product;
mod quantize;
mod repr;
mod scheme;
pub mod self_test;
mod weight;

pub use assembly::{Assembly, AssemblyError};
pub use declared::Declared;
pub use dtype::{Element, Elements, OwnedElements, WeightDtype};
pub use error::QuantError;
pub use joint::{Joint, Quantized};
#[cfg(feature = "cube")]
pub use linear::WeightStack;
pub use linear::{Crossover, DenseOps, Linear4bitOps, QuantLinear, dense_product, linear4bit};
pub use product::{DenseMatrix, MAX_MATVEC_ROWS, Matrix4bit, Precision, matmul, matvec, multiply};
pub use quantize::{DeviceQuantizer, DeviceWeight, Quantizer};
pub use repr::table16;
pub use scheme::{Cut, CutError, Part, PartSpec, Scheme};
pub use weight::QuantWeight;

// Names that the loader uses until it speaks of schemes.
pub use linear::{Device4bit, QuantLinear as Linear4bit};
pub use repr::table16::{Absmax, Blocksize, Layout4bit, NestedAbsmax, QuantType, Quantized4bit, dynamic_map, format};
