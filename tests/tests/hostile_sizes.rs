//! Sizes in configs that no file confirms, by the allocator: they cost no more than the files that exist. The only test of its
//! process, so that nothing else is counted.

mod counting;

use automodel::config::RawConfig;
use automodel::generation::GenerationOptions;
use automodel::{AutoModelError, AutoModelForCausalLM, ForecastOptions};
use automodel_test_support::fixtures::checkpoint;
use counting::{HIGHEST, NOW};
use serde_json::{Value, json};
use std::{fs, ops::ControlFlow, path::Path, sync::atomic::Ordering::Relaxed};

const MIB: usize = 1 << 20;
/// Memory that a config may cost beside small files: the weight map and the plan of as many parameters as it may describe by itself.
const ALLOWED: usize = 96 * MIB;

/// Every size that some family reads.
const KEYS: [&str; 20] = [
    "num_hidden_layers",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "head_dim",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "sliding_window",
    "num_experts",
    "num_local_experts",
    "num_experts_per_tok",
    "n_positions",
    "n_embd",
    "n_head",
    "n_layer",
    "n_inner",
    "original_max_position_embeddings",
];

/// Peak of live bytes during `run`, beyond those live before.
fn cost(run: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    HIGHEST.store(before, Relaxed);
    run();
    HIGHEST.load(Relaxed).saturating_sub(before)
}

/// Everything that is done with a checkpoint, as far as it goes.
fn use_checkpoint(directory: &Path) -> Result<(), AutoModelError> {
    let pretrained = || AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap());
    pretrained().inspect()?;
    pretrained().forecast(&ForecastOptions::default())?;
    let model = pretrained().load()?;
    model.logits(&[1, 2, 3])?;
    for preallocate_cache in [false, true] {
        let max_new_tokens = Some(2);
        let options = GenerationOptions { max_new_tokens, preallocate_cache, ..GenerationOptions::default() };
        let each = &mut |_: automodel::generation::GenerationEvent<'_>| ControlFlow::Continue(());
        model.generate(&[vec![1, 2].into()], &options, each)?;
    }
    Ok(())
}

#[test]
fn sizes_cost_nothing_before_the_files_confirm_them() {
    // Threads, tables of names and whatever else is allocated once.
    use_checkpoint(&checkpoint("llama")).unwrap();
    sizes_of_checkpoints();
    experts_times_layers();
    random_models();
}

fn sizes_of_checkpoints() {
    let fixtures =
        ["llama", "llama-yarn", "gpt2", "mistral", "gemma3_text", "qwen2_moe", "mixtral", "stablelm", "phi3-longrope"];
    let (mut refused, mut used) = (0, 0);
    for name in fixtures {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(checkpoint(name).join("model.safetensors"), directory.path().join("model.safetensors")).unwrap();
        let config: Value = serde_json::from_slice(&fs::read(checkpoint(name).join("config.json")).unwrap()).unwrap();
        for key in KEYS.into_iter().filter(|key| config.get(key).is_some()) {
            for size in [1_u64 << 16, 1 << 30, 1 << 50] {
                let mut changed = config.clone();
                changed[key] = json!(size);
                fs::write(directory.path().join("config.json"), changed.to_string()).unwrap();
                let mut outcome = Ok(());
                let bytes = cost(|| outcome = use_checkpoint(directory.path()));
                assert!(bytes < ALLOWED, "{name} with {key} = {size}: {bytes} bytes, {outcome:?}");
                match outcome {
                    Ok(()) => used += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    // Lengths change no shape.
    assert!(refused > 100 && used > 10, "{refused} refused, {used} used");
}

/// 371 bytes that describe a trillion parameters.
fn experts_times_layers() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(checkpoint("llama").join("model.safetensors"), directory.path().join("model.safetensors")).unwrap();
    for (layers, experts) in [(1024, 8192), (16, 8192), (1024, 512), (1024, 5)] {
        let config = json!({
            "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "vocab_size": 8, "hidden_size": 2,
            "intermediate_size": 2, "moe_intermediate_size": 1, "num_hidden_layers": layers, "num_attention_heads": 1,
            "num_key_value_heads": 1, "head_dim": 2, "num_experts": experts, "num_experts_per_tok": 1,
            "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true, "tie_word_embeddings": false
        });
        fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        let bytes = cost(|| {
            use_checkpoint(directory.path()).unwrap_err();
        });
        assert!(bytes < ALLOWED, "{layers} layers of {experts} experts: {bytes} bytes");
    }
}

fn random_models() {
    let config = fs::read_to_string(checkpoint("llama").join("config.json")).unwrap();
    for key in ["vocab_size", "hidden_size", "intermediate_size", "head_dim", "num_hidden_layers"] {
        for size in [1_u64 << 22, 1 << 30, 1 << 40] {
            let mut config: Value = serde_json::from_str(&config).unwrap();
            config[key] = json!(size);
            let raw = RawConfig::from_value(config).unwrap();
            let bytes = cost(|| {
                AutoModelForCausalLM::from_config(raw).assume_memory(64 << 20).build().unwrap_err();
            });
            assert!(bytes < ALLOWED, "{key} = {size}: {bytes} bytes");
        }
    }
}
