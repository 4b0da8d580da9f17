//! Decoding over fixed buffers on the device, for models that need different parts of a step.

use super::{Saved, VOCABULARY, device};
use automodel::generation::{GenerationOptions, Prompt};
use automodel::loader::{QuantizationConfig, SaveOptions};
use automodel::models::{CacheOptions, DecodeCache, LogitsFor, TokenBatch};
use automodel::{AutoModel, Device, Dtype};
use burn::tensor::{DType, Int, Tensor, TensorData};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;

/// Padded on the left.
pub(super) const PROMPTS: [&[u32]; 2] = [&[3, 17, 80, 41, 9], &[5, 2]];
const TOKENS: [u32; 2] = [23, 60];

fn filled<R: AsRef<[u32]>>(model: &AutoModel, prompts: &[R]) -> DecodeCache {
    let mut cache = model.model().new_cache(&CacheOptions { batch_size: prompts.len(), capacity: None });
    let batch = TokenBatch::new(prompts, VOCABULARY).unwrap();
    model.model().forward(&batch, LogitsFor::Last, &mut cache).unwrap();
    cache
}

fn read(logits: Tensor<3>) -> Vec<f32> {
    logits.try_into_data().unwrap().try_into_vec().unwrap()
}

/// Some steps after the prompts, for sequences of at most `limit` tokens, beside the passes of the CPU and those of the device itself.
/// Returns whether there were steps.
pub(super) fn take_steps<R: AsRef<[u32]>>(
    gpu: &AutoModel,
    cpu: &AutoModel,
    prompts: &[R],
    limit: usize,
    share: f32,
) -> bool {
    let (mut there, mut here) = (filled(gpu, prompts), filled(cpu, prompts));
    let tokens = &TOKENS[..prompts.len()];
    let ids = tokens.iter().map(|&token| token as i32).collect::<Vec<_>>();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens.len()]), (&gpu.model().device(), DType::I32));
    let steps = gpu.model().captured_decode(&there, limit, ids.clone(), false).unwrap();
    let Some(mut steps) = steps else { return false };
    let rows: Vec<_> = tokens.iter().map(std::slice::from_ref).collect();
    for step in 0..3 {
        let found = read(steps.run().unwrap());
        let again = read(gpu.model().forward_tokens(ids.clone(), &mut there).unwrap());
        let batch = TokenBatch::new(&rows, VOCABULARY).unwrap();
        let expected = read(cpu.model().forward(&batch, LogitsFor::Last, &mut here).unwrap());
        let greatest = expected.iter().fold(0.0f32, |greatest, logit| greatest.max(logit.abs()));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().chain(&again).zip(expected.iter().chain(&expected)) {
            let tolerance = share * 1e-4 * greatest;
            assert!((found - expected).abs() <= tolerance, "step {step}: {found} for {expected}");
        }
    }
    true
}

/// Mixtures decode on the device, which sends each token to its experts by itself.
#[test]
fn mixtures_of_experts_take_steps() {
    let Some((device, share)) = device() else { return };
    let experts = json!({
        "head_dim": 16, "moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": true,
        "decoder_sparse_step": 1, "mlp_only_layers": [],
    });
    let saved = Saved::new("qwen3_moe", "Qwen3MoeForCausalLM", experts, Dtype::Float32);
    let nested = QuantizationConfig::nf4().with_double_quant(true);
    for quantization in [None, Some(QuantizationConfig::nf4()), Some(nested)] {
        let [gpu, cpu] = [&device, &Device::flex()].map(|device| saved.load(device, &quantization));
        assert!(take_steps(&gpu, &cpu, &PROMPTS[..1], 64, share));
        assert!(take_steps(&gpu, &cpu, &PROMPTS, 64, share));
        let tokens = |model: &AutoModel| {
            let options = GenerationOptions { max_new_tokens: Some(12), ignore_eos: true, ..Default::default() };
            let prompts = PROMPTS.map(|prompt| Prompt::Tokens(prompt.to_vec()));
            let report = model.generate(&prompts, &options, &mut |_| ControlFlow::Continue(())).unwrap();
            report.texts.into_iter().map(|text| text.token_ids).collect::<Vec<_>>()
        };
        // Less exact products may send a token to another expert now and then.
        if share == 1.0 {
            assert_eq!(tokens(&gpu), tokens(&cpu), "{quantization:?}");
        }
    }
    // The experts' own weights are saved.
    let copy = saved.0.path().join("copy");
    saved.load(&device, &None).save_pretrained(&copy, &SaveOptions::default()).unwrap();
    let read = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(read(&saved.0.path().join("model")) == read(&copy));
}

/// The device adds the embedding of a position that it knows and the host need not.
#[test]
fn learned_positions_take_steps_as_far_as_there_are_some() {
    let Some((device, share)) = device() else { return };
    let sizes = json!({ "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 7 });
    let saved = Saved::new("gpt2", "GPT2LMHeadModel", sizes, Dtype::Float32);
    let [gpu, cpu] = [&device, &Device::flex()].map(|device| saved.load(device, &None));
    assert!(take_steps(&gpu, &cpu, &[[3u32, 17], [80, 5]], 64, share));
    let mut cache = filled(&gpu, &[[3u32, 17, 80, 41, 9, 1]]);
    let ids = Tensor::<1, Int>::from_data(TensorData::from([23i32]), (&device, DType::I32));
    let mut steps = gpu.model().captured_decode(&cache, 64, ids.clone(), false).unwrap().unwrap();
    assert!(steps.run().is_ok());
    let refused = steps.run().unwrap_err().to_string();
    assert!(gpu.model().forward_tokens(ids.clone(), &mut cache).is_ok());
    assert_eq!(refused, gpu.model().forward_tokens(ids.clone(), &mut cache).unwrap_err().to_string());
    // None is left.
    assert!(gpu.model().captured_decode(&filled(&gpu, &[[3u32; 7]]), 64, ids, false).unwrap().is_none());
}

/// Angles that change with the length of the sequence are fixed while it stays on one side of the original length.
#[test]
fn angles_that_depend_on_the_length_take_steps_within_it() {
    let Some((device, share)) = device() else { return };
    let longrope = json!({
        "original_max_position_embeddings": 16, "pad_token_id": null, "sliding_window": null,
        "rope_scaling": {
            "type": "longrope", "long_factor": [1.5, 2.5, 4.0, 7.0, 7.5, 8.0, 8.5, 9.0],
            "short_factor": [1.0, 1.1, 1.25, 1.4, 1.5, 1.6, 1.7, 1.8],
        },
    });
    let dynamic = json!({ "max_position_embeddings": 16, "rope_scaling": { "type": "dynamic", "factor": 4.0 } });
    for (model_type, class, more) in [("phi3", "Phi3ForCausalLM", longrope), ("llama", "LlamaForCausalLM", dynamic)] {
        let saved = Saved::new(model_type, class, more, Dtype::Float32);
        let [gpu, cpu] = [&device, &Device::flex()].map(|device| saved.load(device, &None));
        let (short, long): (Vec<u32>, Vec<u32>) = ((1..6).collect(), (1..21).collect());
        assert!(take_steps(&gpu, &cpu, &[&short], 16, share), "{model_type}");
        assert!(!take_steps(&gpu, &cpu, &[&short], 17, share), "{model_type}");
        assert_eq!(take_steps(&gpu, &cpu, &[&long], 64, share), model_type == "phi3");
    }
}
