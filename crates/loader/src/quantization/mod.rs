//! Which weights are quantised, and how.

pub(crate) mod cuts;
mod pattern;
mod select;
mod skip_list;

pub(crate) use pattern::SkipList;
pub(crate) use select::{Chosen, Dense, EXPERT, Matrix, Selector, TIED, module_of};
pub(crate) use skip_list::{Modules, declaration, may_be_linear, output_heads};

use crate::CheckpointFiles;
use automodel_quant::{Scheme, files, table16::Blocksize};
use serde::Serialize;
use std::fmt;

/// A request for quantised weights: projections are quantised while they are read.
///
/// Embeddings, the output head (unless `quantize_head` is set), tied weights, norms, routers, biases and parameters that the model keeps in float32 stay dense, as do
/// the modules in `skip_modules`.
///
/// ```
/// use automodel_loader::QuantizationConfig;
/// use automodel_quant::Scheme;
///
/// let config = QuantizationConfig::nf4().with_double_quant(true).with_skip_modules(["o_proj", r"model\.layers\.[01]"]);
/// assert_eq!(config.scheme, Scheme::nf4().with_double_quant(true));
/// assert!(config.skips("model.layers.7.self_attn.o_proj"));
/// assert!(config.skips("model.layers.1.mlp.up_proj"));
/// assert!(!config.skips("model.layers.10.mlp.up_proj"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuantizationConfig {
    /// The representation.
    #[serde(flatten)]
    pub scheme: Scheme,
    /// Whether the output head is quantised too, where it is not tied to the embedding. transformers leaves it dense; it is read
    /// for every token, so that it counts where the vocabulary is large.
    pub quantize_head: bool,
    /// Modules that stay dense, in the words of transformers' `llm_int8_skip_modules`: an entry matches a module by the
    /// beginning of its path up to a whole part (`model.layers.1` but not `model.layers.11`), by its end (`o_proj`), or as a
    /// regular expression for the beginning. A module is looked for under its path here and under those in the checkpoint.
    pub skip_modules: Vec<String>,
}

impl QuantizationConfig {
    /// In a scheme, with nothing skipped.
    pub fn new(scheme: impl Into<Scheme>) -> Self {
        Self { scheme: scheme.into(), quantize_head: false, skip_modules: Vec::new() }
    }

    /// Quantiles of a normal distribution, in blocks of 64.
    pub fn nf4() -> Self {
        Self::new(Scheme::nf4())
    }

    /// Small floats, in blocks of 64.
    pub fn fp4() -> Self {
        Self::new(Scheme::fp4())
    }

    /// With another number of elements that share a scale, where the scheme has such a choice.
    pub fn with_blocksize(mut self, blocksize: Blocksize) -> Self {
        self.scheme = self.scheme.with_blocksize(blocksize);
        self
    }

    /// With scales in 8 bits or not, where the scheme has such a choice.
    pub fn with_double_quant(mut self, double_quant: bool) -> Self {
        self.scheme = self.scheme.with_double_quant(double_quant);
        self
    }

    /// With the output head quantised too, or not.
    pub fn with_quantize_head(mut self, quantize_head: bool) -> Self {
        self.quantize_head = quantize_head;
        self
    }

    /// With modules that stay dense.
    pub fn with_skip_modules<S: Into<String>>(mut self, modules: impl IntoIterator<Item = S>) -> Self {
        self.skip_modules = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Whether the module at `path` (without `.weight`) is among [`QuantizationConfig::skip_modules`]. An entry that is not a
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
pub(crate) fn quantized_tensor(checkpoint: &CheckpointFiles) -> Option<&str> {
    let mut names = checkpoint.tensors().keys();
    names.find(|name| files::shows_quantization(name)).map(String::as_str)
}

/// Whether an entry of a skip list, taken literally, means the module at `path`.
pub(crate) fn covers(entry: &str, path: &str) -> bool {
    let rest = path.strip_prefix(entry);
    let starts = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || entry.ends_with('.'));
    !entry.is_empty() && (starts || path.ends_with(entry))
}

/// How a parameter is quantised. `Display`: `nf4, blocks of 64, double quantisation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Encoding {
    /// The representation.
    #[serde(flatten)]
    pub scheme: Scheme,
    /// Whether it is stored so in the files; otherwise it is quantised while it is read.
    pub prequantized: bool,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scheme.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_quant::{Elements, QuantWeight};

    #[test]
    fn bytes_are_those_of_the_quantised_weight() {
        for shape in [[1, 1], [3, 5], [64, 64], [300, 301], [520, 128]] {
            let values = vec![0.5f32; shape[0] * shape[1]];
            for blocksize in [32, 64, 4096].map(|size| Blocksize::new(size).unwrap()) {
                for double_quant in [false, true] {
                    let scheme = Scheme::fp4().with_blocksize(blocksize).with_double_quant(double_quant);
                    let weight = QuantWeight::quantize(scheme, shape, Elements::F32(&values)).unwrap();
                    let tensors = files::write("w.weight", &weight).into_iter();
                    let parts = tensors.filter(|(name, _)| !name.ends_with("_map") && !name.contains("quant_state"));
                    let bytes: usize = parts.map(|(_, tensor)| tensor.data.len()).sum();
                    assert_eq!(scheme.bytes(shape), Some(bytes as u64), "{scheme} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn sizes_that_do_not_exist_are_none() {
        let scheme = Scheme::nf4().with_blocksize(Blocksize::new(32).unwrap());
        assert_eq!(scheme.bytes([64, 64]), Some(2048 + 512));
        assert!(scheme.bytes([usize::MAX, 1]).is_some(), "half a byte for each element always exists");
        assert_eq!(scheme.bytes([usize::MAX, 2]), None);
    }
}
