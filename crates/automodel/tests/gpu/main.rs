//! Whole models on a GPU, or what poses as one, against the CPU.

mod families;
mod quantize;
mod steps;

use automodel::config::RawConfig;
use automodel::cuda::CudaFacts;
use automodel::generation::GenerationOptions;
use automodel::loader::{LoadReport, QuantizationConfig, SaveOptions};
use automodel::{
    AutoModel, AutoModelForCausalLM, Device, DeviceError, DeviceMemory, DeviceName, Dtype, Fit, ForecastOptions,
    MemoryBound,
};
use burn::tensor::{DeviceType, FloatDType};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use tempfile::TempDir;

/// The first device that is there, and how much less exact its float32 products may be: CUDA may take TF32 tensor cores, with 11 bits.
fn device() -> Option<(Device, f32)> {
    for (name, share) in [(DeviceName::Cuda(0), 200.0), (DeviceName::Wgpu, 1.0)] {
        match name.open() {
            Ok(device) => return Some((device, share)),
            Err(DeviceError::Absent { .. } | DeviceError::NotBuilt { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    eprintln!("SKIPPED: no GPU and no software Vulkan driver, so no model was run on one");
    None
}

const VOCABULARY: usize = 96;

/// A small model with values drawn at random, saved.
struct Saved(TempDir);

impl Saved {
    fn new(model_type: &str, class: &str, more: Value, dtype: Dtype) -> Self {
        let mut config = json!({
            "model_type": model_type, "architectures": [class], "vocab_size": VOCABULARY, "hidden_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
            "initializer_range": 0.2, "max_position_embeddings": 128, "tie_word_embeddings": false, "hidden_act": "silu",
            "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
        });
        let entries = config.as_object_mut().unwrap();
        if model_type == "gpt2" {
            entries.retain(|key, _| {
                ["model_type", "architectures", "vocab_size", "initializer_range"].contains(&key.as_str())
            });
        }
        entries.extend(more.as_object().unwrap().clone());
        let raw = RawConfig::from_value(config).unwrap();
        let model = AutoModelForCausalLM::from_config(raw).seed(5).dtype(dtype).build().unwrap();
        let parent = tempfile::tempdir().unwrap();
        model.save_pretrained(&parent.path().join("model"), &SaveOptions::default()).unwrap();
        Self(parent)
    }

    fn load(&self, device: &Device, quantization: &Option<QuantizationConfig>) -> AutoModel {
        let folder = self.0.path().join("model").display().to_string();
        let builder = AutoModelForCausalLM::from_pretrained(folder).device(device.clone());
        match quantization {
            Some(config) => builder.quantize(config.clone()).load().unwrap(),
            None => builder.load().unwrap(),
        }
    }
}

fn demo(device: &Device, quantized: bool) -> AutoModel {
    let builder = AutoModelForCausalLM::from_pretrained("demo").device(device.clone());
    let builder = if quantized { builder.quantize(QuantizationConfig::nf4()) } else { builder };
    builder.load().unwrap()
}

fn logits(model: &AutoModel) -> Vec<f32> {
    model.logits(&[1, 6, 11, 14, 8, 12, 15]).unwrap().into_data().try_into_vec().unwrap()
}

/// Texts after prompts of unequal length, which do not end at once.
fn texts(model: &AutoModel, options: &GenerationOptions) -> Vec<String> {
    let prompts = ["27+48=".into(), "1+2=".into(), "99+99=".into()];
    let report = model.generate(&prompts, options, &mut |_| ControlFlow::Continue(())).unwrap();
    report.texts.into_iter().map(|text| text.text).collect()
}

/// How tokens are chosen.
fn choices() -> Vec<GenerationOptions> {
    let greedy = GenerationOptions::default();
    let drawn = GenerationOptions {
        do_sample: Some(true),
        seed: Some(3),
        temperature: Some(1.3),
        ignore_eos: true,
        max_new_tokens: Some(30),
        ..greedy.clone()
    };
    let narrowed = GenerationOptions {
        top_p: Some(0.9),
        min_p: Some(0.01),
        repetition_penalty: Some(1.2),
        seed: Some(8),
        ..drawn.clone()
    };
    vec![greedy, drawn, narrowed]
}

#[test]
fn the_demo_computes_the_same_on_the_gpu() {
    let Some((device, share)) = device() else { return };
    for quantized in [false, true] {
        let (gpu, cpu) = (demo(&device, quantized), demo(&Device::flex(), quantized));
        let (here, there) = (logits(&gpu), logits(&cpu));
        assert_eq!(here.len(), there.len());
        let greatest = there.iter().fold(0.0f32, |greatest, logit| greatest.max(logit.abs()));
        for (a, b) in here.iter().zip(&there) {
            assert!((a - b).abs() <= share * 1e-4 * greatest, "{a} {b} of {greatest}, quantised: {quantized}");
        }
        for options in choices() {
            let found = texts(&gpu, &options);
            // Less exact products may draw another token now and then; equal seeds still draw equally.
            let other = if share > 1.0 && options.do_sample == Some(true) { &gpu } else { &cpu };
            assert_eq!(found, texts(other, &options), "quantised: {quantized}, {options:?}");
        }
    }
}

/// The demo as it was quantised on a device, saved; and the report of its loading.
fn saved(device: &Device, config: QuantizationConfig) -> (Vec<u8>, LoadReport) {
    let builder = AutoModelForCausalLM::from_pretrained("demo").device(device.clone());
    let model = builder.quantize(config).load().unwrap();
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("copy");
    model.save_pretrained(&folder, &SaveOptions::default()).unwrap();
    (std::fs::read(folder.join("model.safetensors")).unwrap(), model.report().unwrap().clone())
}

#[test]
fn weights_quantised_on_the_gpu_are_saved_like_those_of_the_cpu() {
    let Some((device, _)) = device() else { return };
    let (there, report) = saved(&device, QuantizationConfig::nf4());
    let memory = report.device.unwrap();
    assert!(memory.in_use > 0 && memory.reserved >= memory.in_use, "{memory:?}");
    let (here, report) = saved(&Device::flex(), QuantizationConfig::nf4());
    assert_eq!(report.device, None);
    assert!(there == here);
}

#[test]
fn scales_that_are_quantised_too_stay_so_on_the_gpu() {
    let Some((device, _)) = device() else { return };
    let (there, _) = saved(&device, QuantizationConfig::nf4().with_double_quant(true));
    // What `automodel quantize` writes from the files, without a model.
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("converted");
    let config = QuantizationConfig::nf4().with_double_quant(true);
    let demo = AutoModelForCausalLM::from_pretrained("demo");
    demo.quantize_checkpoint(&folder, &config, &Default::default()).unwrap();
    let here = std::fs::read(folder.join("model.safetensors")).unwrap();
    let (there, here) = (SafeTensors::deserialize(&there).unwrap(), SafeTensors::deserialize(&here).unwrap());
    let nested = here.names().into_iter().filter(|name| name.contains("nested_absmax") || name.contains("quant_state"));
    assert!(nested.clone().count() > 0);
    for name in here.names() {
        assert_eq!(there.tensor(name).unwrap().data(), here.tensor(name).unwrap().data(), "{name}");
    }
}

/// Not every device computes in bfloat16: such files are quantised on the host there, to the same codes.
#[test]
fn files_in_half_precision_are_quantised_alike() {
    let Some((device, share)) = device() else { return };
    for (dtype, float) in [(Dtype::Float16, FloatDType::F16), (Dtype::BFloat16, FloatDType::BF16)] {
        let saved = Saved::new("llama", "LlamaForCausalLM", json!({}), dtype);
        let load = |device: &Device| saved.load(device, &Some(QuantizationConfig::nf4()));
        let (here, there) = (load(&Device::flex()), load(&device));
        let codes = |model: &AutoModel| {
            let mut codes = Vec::new();
            model.model().read_quantized(&mut |path, layer| {
                let weight = layer.to_weight().and_then(|weight| weight.table16()).unwrap();
                codes.push((path.to_owned(), weight.packed().clone(), weight.scales()));
            });
            codes
        };
        assert!(!codes(&here).is_empty() && codes(&here) == codes(&there), "{dtype:?}");
        // In the dtype of the file, if the device has it.
        let rounding = if device.supports_dtype(float) { 0.05 } else { share * 1e-4 };
        let (found, expected) = (logits(&there), logits(&here));
        let greatest = expected.iter().fold(0.0f32, |greatest, logit| greatest.max(logit.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= rounding * greatest, "{dtype:?}: {found} for {expected} of {greatest}");
        }
    }
}

/// What the driver has free is what loading and forecasts reckon with.
#[test]
fn asks_the_driver_for_memory() {
    let driver = CudaFacts::gather().filter(|facts| !facts.devices.is_empty());
    let Some(facts) = driver else {
        eprintln!("SKIPPED: no GPU of CUDA, so none was asked for its memory");
        return;
    };
    for (device, gpu) in Device::enumerate(DeviceType::Cuda).into_iter().zip(facts.devices) {
        let memory = DeviceMemory::of(&device).unwrap();
        assert_eq!((Some(memory.total_bytes), memory.bound), (gpu.total_bytes, MemoryBound::Device));
        assert!(memory.available_bytes > 0 && memory.available_bytes <= memory.total_bytes, "{memory:?}");
        let demo = AutoModelForCausalLM::from_pretrained("demo").device(device);
        let forecast = demo.forecast(&ForecastOptions::default().with_contexts([64])).unwrap();
        assert_eq!(forecast.memory.map(|memory| memory.total_bytes), gpu.total_bytes);
        assert!(matches!(forecast.loads[0].contexts[0].fit, Fit::Fits { .. }), "{forecast:?}");
        assert!(matches!(forecast.loads[0].loading, Fit::Fits { .. }), "{forecast:?}");
    }
}
