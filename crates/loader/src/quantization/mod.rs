//! Which weights become 4-bit, and what they occupy then.

mod declare;
pub(crate) mod parts;
mod pattern;
mod select;
mod skip_list;

pub use declare::quantization_config_json;
pub(crate) use pattern::SkipList;
pub(crate) use select::{Chosen, Dense, Matrix, Selector, TIED, module_of};
pub(crate) use skip_list::{Modules, may_be_linear, output_heads};

use crate::CheckpointFiles;
use automodel_quant::{Blocksize, QuantType, format::Companion};
use serde::{Serialize, Serializer};
use std::fmt;

/// Scales that share a scale under double quantisation, in bitsandbytes always.
const NESTED_BLOCKSIZE: usize = 256;

/// A wish for 4-bit weights: projections are quantised while they are read.
///
/// Embeddings, the output head (unless `quantize_head` is set), tied weights, norms, routers, biases and what the model keeps in float32 stay dense, as do
/// the modules in `skip_modules`.
///
/// ```
/// use automodel_loader::QuantizationConfig;
/// use automodel_quant::{Blocksize, QuantType};
///
/// let config = QuantizationConfig::nf4().with_double_quant(true).with_skip_modules(["o_proj", r"model\.layers\.[01]"]);
/// assert_eq!((config.quant_type, config.blocksize), (QuantType::Nf4, Blocksize::default()));
/// assert!(config.skips("model.layers.7.self_attn.o_proj"));
/// assert!(config.skips("model.layers.1.mlp.up_proj"));
/// assert!(!config.skips("model.layers.10.mlp.up_proj"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuantizationConfig {
    /// The code table.
    pub quant_type: QuantType,
    /// Elements that share a scale; 64 unless set.
    #[serde(serialize_with = "as_number")]
    pub blocksize: Blocksize,
    /// Whether the scales are quantised too, to 8 bits.
    pub double_quant: bool,
    /// Whether the output head is quantised too, where it is not tied to the embedding. transformers leaves it dense; it is read
    /// for every token, so that it counts where the vocabulary is large.
    pub quantize_head: bool,
    /// Modules that stay dense, in the words of transformers' `llm_int8_skip_modules`: an entry matches a module by the
    /// beginning of its path up to a whole part (`model.layers.1` but not `model.layers.11`), by its end (`o_proj`), or as a
    /// regular expression for the beginning. A module is looked for under its path here and under those in the checkpoint.
    pub skip_modules: Vec<String>,
}

impl QuantizationConfig {
    /// Blocks of 64, scales in float32, nothing skipped.
    pub fn new(quant_type: QuantType) -> Self {
        Self {
            quant_type,
            blocksize: Blocksize::default(),
            double_quant: false,
            quantize_head: false,
            skip_modules: Vec::new(),
        }
    }

    /// Quantiles of a normal distribution, in blocks of 64.
    pub fn nf4() -> Self {
        Self::new(QuantType::Nf4)
    }

    /// Small floats, in blocks of 64.
    pub fn fp4() -> Self {
        Self::new(QuantType::Fp4)
    }

    /// With another number of elements that share a scale.
    pub fn with_blocksize(mut self, blocksize: Blocksize) -> Self {
        self.blocksize = blocksize;
        self
    }

    /// With scales in 8 bits, or not.
    pub fn with_double_quant(mut self, double_quant: bool) -> Self {
        self.double_quant = double_quant;
        self
    }

    /// With the output head in 4 bits too, or not.
    pub fn with_quantize_head(mut self, quantize_head: bool) -> Self {
        self.quantize_head = quantize_head;
        self
    }

    /// With modules that stay dense.
    pub fn with_skip_modules<S: Into<String>>(mut self, modules: impl IntoIterator<Item = S>) -> Self {
        self.skip_modules = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Whether the module at `path` (without `.weight`) is among [`QuantizationConfig::skip_modules`]. An entry that is no
    /// regular expression, which loading refuses, counts by beginning and end alone.
    pub fn skips(&self, path: &str) -> bool {
        self.entries_for(&[path]).next().is_some()
    }

    /// The entries of [`QuantizationConfig::skip_modules`] that mean a module of several names.
    pub(crate) fn entries_for<S: AsRef<str>>(&self, names: &[S]) -> impl Iterator<Item = &str> {
        let means = |entry: &String| match SkipList::parse(std::slice::from_ref(entry)) {
            Ok(pattern) => names.iter().any(|name| pattern.matching(name.as_ref()).next().is_some()),
            Err(_) => names.iter().any(|name| covers(entry, name.as_ref())),
        };
        self.skip_modules.iter().filter(move |entry| means(entry)).map(String::as_str)
    }
}

/// A tensor by which a checkpoint is known to be quantised already.
pub(crate) fn quantized_tensor(files: &CheckpointFiles) -> Option<&str> {
    let is_state = |name: &&String| matches!(Companion::parse(name), Some((_, Companion::State(_))));
    files.tensors().keys().find(is_state).map(String::as_str)
}

/// Whether an entry of a skip list, taken literally, means the module at `path`.
pub(crate) fn covers(entry: &str, path: &str) -> bool {
    let rest = path.strip_prefix(entry);
    let starts = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || entry.ends_with('.'));
    !entry.is_empty() && (starts || path.ends_with(entry))
}

/// How a parameter is kept in 4 bits. `Display`: `nf4, blocks of 64, double quantisation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Encoding {
    /// The code table.
    pub quant_type: QuantType,
    /// Elements that share a scale.
    #[serde(serialize_with = "as_number")]
    pub blocksize: Blocksize,
    /// Whether the scales are kept in 8 bits.
    pub double_quant: bool,
    /// Whether the files have the codes already.
    pub prequantized: bool,
}

impl Encoding {
    /// Bytes of codes and scales of so many elements; `None` on overflow.
    pub fn bytes(self, elements: usize) -> Option<u64> {
        let blocks = self.blocksize.blocks(elements);
        let scales = match self.double_quant {
            false => blocks.checked_mul(4)?,
            true => blocks.div_ceil(NESTED_BLOCKSIZE).checked_mul(4)?.checked_add(blocks)?,
        };
        u64::try_from(elements.div_ceil(2).checked_add(scales)?).ok()
    }

    /// Bytes that quantising so many elements needs besides the result: scales that are 4 bytes until they become one.
    pub(crate) fn transient_bytes(self, elements: usize) -> u64 {
        let blocks = self.blocksize.blocks(elements) as u64;
        if self.double_quant && !self.prequantized { blocks.saturating_mul(4) } else { 0 }
    }

    /// Whether a run of elements of a quantised tensor is a quantised tensor itself: it begins with a block.
    pub(crate) fn begins_block(blocksize: Blocksize, element: usize) -> bool {
        element.is_multiple_of(blocksize.get())
    }

    /// Whether scales from that of `block` on keep their own scales.
    pub(crate) fn begins_nested_block(block: usize) -> bool {
        block.is_multiple_of(NESTED_BLOCKSIZE)
    }

    /// The place of the scale of the scale of `block`.
    pub(crate) fn nested_block(block: usize) -> usize {
        block / NESTED_BLOCKSIZE
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, blocks of {}", self.quant_type.name(), self.blocksize.get())?;
        f.write_str(if self.double_quant { ", double quantisation" } else { "" })
    }
}

fn as_number<S: Serializer>(blocksize: &Blocksize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(blocksize.get() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_quant::{Elements, Quantized4bit};

    #[test]
    fn bytes_are_those_of_the_quantised_weight() {
        for (rows, columns) in [(1, 1), (3, 5), (64, 64), (300, 301), (520, 128)] {
            let values = vec![0.5f32; rows * columns];
            for blocksize in [32, 64, 4096].map(|size| Blocksize::new(size).unwrap()) {
                let plain = Quantized4bit::quantize(QuantType::Fp4, blocksize, [rows, columns], Elements::F32(&values))
                    .unwrap();
                for (double_quant, weight) in [(false, plain.clone()), (true, plain.nested())] {
                    let encoding =
                        Encoding { quant_type: QuantType::Fp4, blocksize, double_quant, prequantized: false };
                    assert_eq!(encoding.bytes(rows * columns), Some(weight.byte_len() as u64), "{encoding} {rows}");
                }
            }
        }
    }

    #[test]
    fn sizes_that_do_not_exist_are_none() {
        let encoding = Encoding {
            quant_type: QuantType::Nf4,
            blocksize: Blocksize::new(32).unwrap(),
            double_quant: false,
            prequantized: false,
        };
        assert_eq!(encoding.bytes(4096), Some(2048 + 512));
        assert!(encoding.bytes(usize::MAX).is_some(), "half a byte for each element always exists");
    }
}
