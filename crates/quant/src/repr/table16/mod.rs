//! Four bits an element, looked up in a table of 16 values, with a scale for each block of consecutive elements: NF4 and FP4 of
//! bitsandbytes.

mod assemble;
mod blocksize;
mod codebook;
mod cut;
mod encode;
pub mod format;
mod nested;
mod scheme;
mod weight;

pub use crate::linear::{Device4bit, DeviceQuantizer};
pub use blocksize::Blocksize;
pub use codebook::QuantType;
pub use encode::Quantizer;
pub(crate) use encode::SchemeQuantizer;
pub use nested::{NestedAbsmax, dynamic_map};
pub use scheme::Table16;
pub use weight::{Absmax, Layout4bit, Quantized4bit};

pub(crate) use assemble::Assembly;
pub(crate) use codebook::Encoder;
pub(crate) use cut::{JointScales, part, scales_of};
pub(crate) use nested::NESTED_BLOCKSIZE;
pub(crate) use weight::{Blocks, check_length, elements_of};
