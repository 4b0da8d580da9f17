//! Four bits an element, looked up in a table of 16 values, with a scale for each block of consecutive elements: NF4 and FP4 of
//! bitsandbytes.

mod assemble;
mod blocksize;
mod codebook;
pub(crate) mod cpu;
mod cut;
mod device;
mod encode;
pub mod format;
mod matrix;
mod nested;
mod scheme;
mod tensor;
mod weight;

pub use blocksize::Blocksize;
pub use codebook::QuantType;
pub use device::{Device4bit, DeviceQuantizer};
pub use encode::Quantizer;
pub(crate) use encode::SchemeQuantizer;
pub use matrix::Matrix4bit;
pub use nested::{NestedAbsmax, dynamic_map};
pub use scheme::Table16;
pub use weight::{Absmax, Layout4bit, Quantized4bit};

pub(crate) use assemble::Assembly;
pub(crate) use codebook::Encoder;
pub(crate) use cut::{JointScales, part, scales_of};
#[cfg(feature = "cube")]
pub(crate) use device::{Quantize4bitOps, decodes, dequantize_on_device};
pub(crate) use nested::NESTED_BLOCKSIZE;
pub(crate) use tensor::{Scales, dequantize, fetch, on_flex, scales_on, upload};
pub(crate) use weight::{Blocks, check_length, elements_of};
