//! The fixtures under `tests/fixtures`: their paths, and the numbers of transformers.

use crate::derived;
use safetensors::SafeTensors;
use std::fs;
use std::path::{Path, PathBuf};

/// Model types whose decode steps, or those of a variant, are not captured on GPUs: docs/ARCHITECTURE.md says what has no kernel for one
/// token yet.
pub const WITHOUT_CAPTURED_STEPS: &[&str] = &[
    "afmoe",
    "axk1",
    "baichuan",
    "bloom",
    "cohere2_moe",
    "deepseek",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "ernie4_5_moe",
    "exaone_moe",
    "falcon",
    "gemma4",
    "gemma4_text",
    "gemma4_unified",
    "gemma4_unified_text",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v_moe",
    "glm_moe_dsa",
    "gpt_oss",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "hy_v3",
    "kimi_k2",
    "kolibri1",
    "laguna",
    "lfm2",
    "llama4",
    "llama4_text",
    "longcat_flash",
    "mimo_v2_flash",
    "minicpm3",
    "minimax_m2",
    "ministral3",
    "mistral4",
    "mpt",
    "nanochat",
    "phimoe",
    "solar_open",
    "xglm",
    "youtu",
];

/// A path below `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(path)
}

/// The directory of a checkpoint in `fixtures/checkpoints`.
pub fn checkpoint(name: &str) -> PathBuf {
    derived::whole(&fixture("checkpoints").join(name))
}

/// The directory of a 4-bit checkpoint in `fixtures/bitsandbytes`.
pub fn bitsandbytes(name: &str) -> PathBuf {
    derived::whole(&fixture("bitsandbytes").join(name))
}

/// Names of all checkpoints in `fixtures/checkpoints`, sorted.
pub fn checkpoints() -> Vec<String> {
    folders("checkpoints")
}

/// Names of all checkpoints in `fixtures/bitsandbytes`, sorted.
pub fn bitsandbytes_checkpoints() -> Vec<String> {
    folders("bitsandbytes")
}

fn folders(kind: &str) -> Vec<String> {
    let entries = fs::read_dir(fixture(kind)).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The numbers that transformers computed from a checkpoint.
pub struct Reference {
    /// The input, `[length]`.
    pub tokens: Vec<u32>,
    /// `[length, vocab_size]`, row-major.
    pub logits: Vec<f32>,
    /// The tokens that follow by taking the best logit, never stopping; empty for 4-bit checkpoints.
    pub greedy: Vec<u32>,
}

impl Reference {
    /// The reference of a checkpoint in `fixtures/checkpoints`.
    pub fn read(name: &str) -> Self {
        Self::in_directory(&checkpoint(name))
    }

    /// The reference beside a checkpoint; without greedy tokens where the file has none.
    pub fn in_directory(directory: &Path) -> Self {
        let bytes = fs::read(directory.join("reference.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let data = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
        let ids = |name: &str| -> Vec<u32> {
            let whole = data(name);
            let (ids, rest) = whole.as_chunks::<8>();
            assert!(rest.is_empty());
            ids.iter().map(|id| u32::try_from(i64::from_le_bytes(*id)).unwrap()).collect()
        };
        let logits = data("logits").as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Self {
            tokens: ids("input_ids"),
            logits,
            greedy: if tensors.tensor("greedy").is_ok() { ids("greedy") } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checkpoint_has_weights_and_a_reference() {
        let names = checkpoints();
        assert!(names.len() >= 70, "only {} checkpoints found", names.len());
        let four_bit = bitsandbytes_checkpoints();
        assert!(four_bit.len() >= 12, "only {} 4-bit checkpoints found", four_bit.len());
        let directories =
            names.iter().map(|name| checkpoint(name)).chain(four_bit.iter().map(|name| bitsandbytes(name)));
        for directory in directories {
            let index = directory.join("model.safetensors.index.json");
            assert!(directory.join("model.safetensors").is_file() || index.is_file(), "{}", directory.display());
            let reference = Reference::in_directory(&directory);
            assert!(!reference.tokens.is_empty(), "{}", directory.display());
            assert!(reference.logits.len().is_multiple_of(reference.tokens.len()), "{}", directory.display());
        }
    }
}
