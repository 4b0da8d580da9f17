#![doc = include_str!("../README.md")]

mod assembly;
mod cpu;
#[cfg(feature = "cube")]
mod cube;
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
#[cfg(feature = "cube")]
mod stack;
mod weight;

pub use assembly::{Assembly, AssemblyError};
pub use declared::Declared;
pub use dense::{DenseMatrix, DenseOps, dense_product};
pub use dtype::{Element, Elements, OwnedElements, WeightDtype};
pub use error::QuantError;
pub use joint::{Joint, Quantized};
pub use linear::{Crossover, QuantLayout, QuantLinear, QuantOps, quant_product};
pub use product::{MAX_MATVEC_ROWS, Precision, matmul, matvec, multiply};
pub use quantize::{DeviceQuantizer, DeviceWeight, Quantizer};
pub use repr::table16;
pub use scheme::{Cut, CutError, Part, PartSpec, Scheme};
#[cfg(feature = "cube")]
pub use stack::WeightStack;
pub use weight::QuantWeight;
