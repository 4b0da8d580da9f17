//! Every family's small checkpoint on a GPU, a software driver included, against the CPU, whose numbers are compared with transformers
//! elsewhere.

use super::device;
use super::steps::{PROMPTS, take_steps};
use automodel::models::{CacheOptions, LogitsFor, TokenBatch};
use automodel::{AutoModel, AutoModelForCausalLM, Device, Dtype};
use automodel_test_support::fixtures::{checkpoint, checkpoints};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Where the checkpoints are: beside the tests of the whole workspace, or where a bundle has put them.
pub fn folders() -> Vec<PathBuf> {
    let Some(root) = std::env::var_os("AUTOMODEL_CHECKPOINTS").map(PathBuf::from) else {
        return checkpoints().iter().map(|name| checkpoint(name)).collect();
    };
    let entries = std::fs::read_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Logits of every position of padded prompts.
fn logits(model: &AutoModel) -> Vec<f32> {
    let mut cache = model.model().new_cache(&CacheOptions { batch_size: PROMPTS.len(), capacity: None });
    let batch = TokenBatch::new(&PROMPTS, model.model().vocab_size()).unwrap();
    let logits = model.model().forward(&batch, LogitsFor::All, &mut cache).unwrap();
    logits.try_into_data().unwrap().try_into_vec().unwrap()
}

#[test]
fn every_family_computes_the_same_on_the_gpu() {
    let Some((device, share)) = device() else { return };
    let folders = folders();
    assert!(folders.len() > 50, "{}", folders.len());
    let mut without_steps = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let load = |device: &Device| {
            let builder = AutoModelForCausalLM::from_pretrained(folder.display().to_string());
            builder.dtype(Dtype::Float32).device(device.clone()).load().unwrap()
        };
        let (gpu, cpu) = (load(&device), load(&Device::flex()));
        let (found, expected) = (logits(&gpu), logits(&cpu));
        // Positions of padding may hold anything.
        let width = cpu.model().vocab_size();
        let [longest, short] = PROMPTS.map(<[u32]>::len);
        let is_padding = |place: usize| (longest..2 * longest - short).contains(&(place / width));
        let kept = |values: Vec<f32>| -> Vec<f32> {
            values.into_iter().enumerate().filter(|(place, _)| !is_padding(*place)).map(|(_, value)| value).collect()
        };
        let (found, expected) = (kept(found), kept(expected));
        let greatest = expected.iter().fold(0.0f32, |greatest, logit| greatest.max(logit.abs()));
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() <= share * 1e-4 * greatest,
                "{name}: {found} for {expected} of {greatest}"
            );
        }
        if !take_steps(&gpu, &cpu, &PROMPTS, 16, share) {
            without_steps.push(name);
        }
    }
    // What these compute has no kernel for one token yet: docs/ARCHITECTURE.md lists it.
    let without = [
        "afmoe",
        "axk1",
        "bloom",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "dots1",
        "ernie4_5_moe",
        "falcon",
        "gemma4",
        "gemma4_text",
        "gemma4_unified",
        "gemma4_unified_text",
        "glm4_moe",
        "glm4_moe_lite",
        "glm4v_moe",
        "glm_moe_dsa",
        "hunyuan_v1_dense",
        "laguna",
        "lfm2",
        "llama4_text",
        "longcat_flash",
        "mimo_v2_flash",
        "minicpm3",
        "ministral3",
        "mpt",
        "nanochat",
        "xglm",
        "youtu",
    ];
    let is_without = |name: &&String| without.contains(&name.split('-').next().unwrap_or_default());
    let unexpected: Vec<&String> = without_steps.iter().filter(|name| !is_without(name)).collect();
    assert_eq!(unexpected, [""; 0]);
    let families: BTreeSet<&str> = without_steps.iter().filter_map(|name| name.split('-').next()).collect();
    assert_eq!(families, BTreeSet::from(without), "these take steps now: say so");
}
