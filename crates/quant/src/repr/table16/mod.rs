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
mod representation;
mod scheme;
mod tensor;
mod weight;

pub use blocksize::Blocksize;
pub use codebook::QuantType;
pub use device::{Device4bit, DeviceQuantizer};
pub use encode::Quantizer;
use encode::SchemeQuantizer;
pub use matrix::Matrix4bit;
pub use nested::{NestedAbsmax, dynamic_map};
pub use scheme::Table16;
pub use weight::{Absmax, Layout4bit, Quantized4bit};

use assemble::Assembly;
pub(crate) use codebook::Encoder;
pub(crate) use cut::{JointScales, scales_of};
#[cfg(feature = "cube")]
pub(crate) use device::{Quantize4bitOps, decodes, dequantize_on_device};
pub(crate) use nested::NESTED_BLOCKSIZE;
#[cfg(feature = "cube")]
pub(crate) use tensor::{Scales, dequantize};
pub(crate) use tensor::{dequantize_parts, scales_on};
pub(crate) use weight::{Blocks, check_length, elements_of};
