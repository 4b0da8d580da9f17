//! Errors of quantised weights, their declaration and their files.

use thiserror::Error;

use crate::WeightDtype;

/// An error of quantised weights, their declaration or their files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A `quantization_config` that cannot be understood.
    #[error("quantization_config{}: {problem}", key.as_ref().map(|key| format!(".{key}")).unwrap_or_default())]
    InvalidConfig {
        /// The key within it.
        key: Option<String>,
        /// What is wrong, and the expected value.
        problem: String,
    },
    /// Weights stored in a way that cannot be read.
    #[error(
        "the weights of this checkpoint are stored with quantisation method `{method}` ({description}), which cannot be \
         read: take the checkpoint that it was made from, in float32, float16 or bfloat16"
    )]
    UnsupportedMethod {
        /// `quant_method`, with its variant.
        method: String,
        /// What the method is.
        description: String,
    },
    /// A block size that bitsandbytes does not support.
    #[error("block size {blocksize}: take a power of two from 32 to 4096")]
    InvalidBlocksize {
        /// The number given.
        blocksize: usize,
    },
    /// A shape with a zero size, or with more elements than memory can hold.
    #[error("shape [{}, {}]: both sizes must be positive and the elements must fit in memory", shape[0], shape[1])]
    InvalidShape {
        /// `[out, in]`
        shape: [usize; 2],
    },
    /// The system refused memory.
    #[error("{bytes} bytes for a quantised weight were refused by the system: free memory or take a smaller model")]
    Allocation {
        /// Size of the request.
        bytes: usize,
    },
    /// An element that has no 4-bit code.
    #[error(
        "element {index} (in row-major order) is {value}: only finite weights can be quantised, keep this one dense"
    )]
    NonFinite {
        /// Its place in the weight, in row-major order.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A window of elements of another type than the first ones.
    #[error("a window of {found} elements for a weight that has {expected} elements: convert it first")]
    MixedDtypes {
        /// Type of the weight.
        expected: WeightDtype,
        /// Type of the window.
        found: WeightDtype,
    },
    /// A window that is not within the weight.
    #[error("a window of {len} elements at {offset} exceeds the weight's {elements} elements")]
    WindowOutOfRange {
        /// Where the window begins.
        offset: usize,
        /// Its elements.
        len: usize,
        /// Elements of the weight.
        elements: usize,
    },
    /// A window with elements that were given before.
    #[error("a window of {len} elements at {offset} repeats elements: each must be given once")]
    WindowOverlap {
        /// Where the window begins.
        offset: usize,
        /// Its elements.
        len: usize,
    },
    /// A window for a device that ends within a block.
    #[error("a window of {len} elements at {offset} ends within a block of {blocksize}: only the last window may")]
    UnalignedWindow {
        /// Where the window begins.
        offset: usize,
        /// Its elements.
        len: usize,
        /// Elements of a block.
        blocksize: usize,
    },
    /// Elements without a code, found by a device.
    #[error("one of the elements {first} to {last} is not finite: only finite elements can be quantised")]
    NonFiniteBlock {
        /// The first element of the block.
        first: usize,
        /// Its last element.
        last: usize,
    },
    /// A device that cannot quantise.
    #[error("{device} has no kernels that quantise: quantise on the host, or build with the feature `cuda` or `wgpu`")]
    NoDeviceKernels {
        /// The device.
        device: String,
    },
    /// A device that does not compute in the dtype of the weight.
    #[error("{device} does not compute in {dtype}: quantise on the host, or convert the weight to float32 first")]
    DeviceDtype {
        /// The device.
        device: String,
        /// The dtype of the weight.
        dtype: WeightDtype,
    },
    /// A device that failed.
    #[error("the device failed: {reason}")]
    Device {
        /// Its message.
        reason: String,
    },
    /// A cut of a weight in another scheme or of another shape.
    #[error("a part was cut for weights in {expected}, but this weight is in {found}, or the shapes differ")]
    OtherCut {
        /// Scheme of the cut.
        expected: String,
        /// Scheme of the weight.
        found: String,
    },
    /// A weight that ended too early.
    #[error("only {filled} of {elements} elements were given before the weight was finished")]
    IncompleteWeight {
        /// Elements given.
        filled: usize,
        /// Elements of the weight.
        elements: usize,
    },
    /// Parts of a quantised weight, or operands of a product, that do not fit each other.
    #[error("{part} has {found} elements, expected {expected}")]
    LengthMismatch {
        /// Which part.
        part: &'static str,
        /// Elements that the shape requires.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// A scale that no file may have.
    #[error("{part}[{index}] is {value}, but scales are finite")]
    InvalidScale {
        /// Which list of scales.
        part: &'static str,
        /// Place in it.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A tensor of the bitsandbytes format that is not there.
    #[error("tensor `{tensor}` is missing, without which `{parameter}` cannot be read: the file is incomplete")]
    MissingTensor {
        /// The quantised parameter.
        parameter: String,
        /// The absent tensor.
        tensor: String,
    },
    /// A parameter with two quantisation states.
    #[error("`{parameter}` has a state for nf4 and one for fp4: remove the one that does not belong to it")]
    ConflictingStates {
        /// The quantised parameter.
        parameter: String,
    },
    /// A tensor of the bitsandbytes format that is not what the others ask for.
    #[error("tensor `{tensor}`: {problem}")]
    InvalidTensor {
        /// Its name.
        tensor: String,
        /// What is wrong, and the expected value.
        problem: String,
    },
    /// Scales that were rearranged for one processor before the file was written.
    #[error(
        "tensor `{tensor}` has dtype {dtype} and shape {shape:?}: bitsandbytes wrote this file after it had rearranged the \
         weights for AVX-512, and they cannot be restored; quantise the original checkpoint again and save it before use"
    )]
    RepackedAbsmax {
        /// Name of the scales.
        tensor: String,
        /// Their dtype as safetensors names it.
        dtype: String,
        /// Their shape.
        shape: Vec<usize>,
    },
    /// A quantisation state that is not JSON.
    #[error("tensor `{tensor}` does not hold the JSON of a quantisation state")]
    StateNotJson {
        /// Its name.
        tensor: String,
        /// The parser's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
