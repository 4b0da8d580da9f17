//! Models whose projections are quantised while they are loaded: their logits, through the public calls.
//!
//! Of 4-bit weights three crates promise something, each its own part: `quant` the codes and scales of one weight and the tensors of
//! one parameter, against bitsandbytes (`golden.rs`, `format.rs`); `loader` that the weights of every family are the same bits
//! while loading, from file to file and as transformers writes them (`three_ways.rs`), and which files are refused; these tests that
//! models compute with them as transformers does, and are the same after saving and loading (`save_quantized.rs`).

use crate::support::{Reference, bitsandbytes, checkpoint, copy_of_directory, distance, edit_tensors};
use automodel::attention::SdpaBackend;
use automodel::loader::{QuantizationConfig, RequantizeOptions, SaveOptions};
use automodel::models::parameters::ParameterTensor;
use automodel::models::{CacheOptions, CausalLm, Decoder, LogitsFor, Model, ModelOptions, TokenBatch};
use automodel::quant::{Elements, Precision, QuantWeight, Scheme, table16::Blocksize};
use automodel::registry::weights::ParameterRole;
use automodel::{AutoModel, AutoModelForCausalLM, Device};
use burn::tensor::{DType, Tensor, TensorData};
use std::path::Path;

fn load(name: &str, quantization: Option<QuantizationConfig>) -> AutoModel {
    let model = AutoModelForCausalLM::from_pretrained(checkpoint(name).to_str().unwrap());
    let model = match quantization {
        Some(config) => model.quantize(config),
        None => model,
    };
    model.load().unwrap()
}

/// The dense model with every projection quantised and dequantised.
pub(crate) fn decoded(dense: &AutoModel, scheme: Scheme) -> Decoder {
    let lowered = &dense.prepared().lowered;
    let options = ModelOptions::new(SdpaBackend::Math);
    let mut decoder = Decoder::new(lowered.spec.as_ref().unwrap(), options, &Device::flex()).unwrap();
    let slot = |path: &str| lowered.weights.parameters.iter().find(|slot| slot.path == path).unwrap();
    decoder
        .assign_parameters(&mut |path| {
            let value = dense.parameter(path)?;
            let slot = slot(path);
            let projection = matches!(slot.role, ParameterRole::Projection | ParameterRole::ExpertProjection);
            let &[rows, columns] = value.shape().as_slice() else { return Some(value) };
            if !projection || slot.keep_float32 {
                return Some(value);
            }
            let values = value.into_data()?.try_into_vec::<f32>().unwrap();
            let shape = [rows, columns];
            let weight = QuantWeight::quantize(scheme, shape, Elements::F32(&values)).unwrap();
            let data = TensorData::new(weight.dequantize::<f32>(), shape);
            Some(ParameterTensor::new(Tensor::<2>::from_data(data, (&Device::flex(), DType::F32))))
        })
        .unwrap();
    decoder
}

#[test]
fn logits_are_those_of_the_decoded_weights() {
    let tokens = [3, 14, 15, 9, 2, 6, 5, 35, 8, 9];
    // Fused rows, transposed, head-major, per expert, with biases.
    for name in ["llama", "phi3", "gpt2", "gpt_neox", "mixtral", "qwen2_moe-mixed", "starcoder2"] {
        for (scheme, blocksize) in [(Scheme::nf4(), 64), (Scheme::fp4(), 32)] {
            let scheme = scheme.with_blocksize(Blocksize::new(blocksize).unwrap());
            let quantized = load(name, Some(QuantizationConfig::new(scheme)));
            let found = quantized.logits(&tokens).unwrap().into_data().try_into_vec::<f32>().unwrap();

            let decoder = decoded(&load(name, None), scheme);
            let batch = TokenBatch::new(&[tokens], decoder.vocab_size()).unwrap();
            let mut cache = decoder.new_cache(&CacheOptions::default());
            let expected = decoder.forward(&batch, LogitsFor::All, &mut cache).unwrap();
            let expected = expected.into_data().try_into_vec::<f32>().unwrap();
            let scale = expected.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
            let apart = expected.iter().zip(&found).fold(0_f32, |largest, (a, b)| largest.max((a - b).abs()));
            assert!(apart < 1e-4 * scale, "{name} {scheme}: {apart} apart at a scale of {scale}");
            let dense = load(name, None).logits(&tokens).unwrap().into_data().try_into_vec::<f32>().unwrap();
            let moved = dense.iter().zip(&found).fold(0_f32, |largest, (a, b)| largest.max((a - b).abs()));
            assert!(moved > 1e-3 * scale, "{name}: the weights were not quantised");
        }
    }
}

#[test]
fn modules_that_are_skipped_stay_dense() {
    let mut config = QuantizationConfig::nf4();
    config.skip_modules = vec!["q_proj".to_owned(), "mlp".to_owned()];
    let model = load("llama", Some(config));
    let mut dense = Vec::new();
    model.model().read_parameters(&mut |path, _| dense.push(path.to_owned()));
    assert!(dense.iter().any(|path| path == "model.layers.0.self_attn.q_proj.weight"));
    assert!(!dense.iter().any(|path| path == "model.layers.0.self_attn.k_proj.weight"));
    assert!(dense.iter().any(|path| path == "lm_head.weight"), "the head stays dense unless asked for");
}

#[test]
fn checkpoints_of_bitsandbytes_give_the_logits_of_transformers() {
    let fused = ["gpt2-nf4-double", "phi3-nf4-double", "phi3-fp4", "gpt_neox-fp4-double", "glm4-nf4-double"];
    let latent = ["minicpm3-nf4-double", "deepseek_v32-nf4"];
    let with_storage = ["llama-nf4-bf16", "llama-nf4-double-f32", "llama-fp4-f16"];
    let plain = ["llama-nf4", "llama-nf4-double", "llama-fp4", "gpt2-nf4"];
    for name in plain.into_iter().chain(fused).chain(latent).chain(with_storage) {
        let directory = bitsandbytes(name);
        let reference = Reference::in_directory(&directory);
        let model = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).load().unwrap();
        let found = model.logits(&reference.tokens).unwrap().into_data().try_into_vec::<f32>().unwrap();
        let apart = distance(&reference.logits, &found);
        assert!(apart < 1e-4, "{name}: {apart} standard deviations apart");
    }
}

/// `bnb_4bit_quant_storage` changes the dtype under which codes are stored, and nothing else.
#[test]
fn bytes_of_codes_may_be_called_anything() {
    use safetensors::Dtype;
    for name in ["llama-nf4", "llama-nf4-double", "llama-fp4", "gpt2-nf4"] {
        let original = bitsandbytes(name);
        let reference = Reference::in_directory(&original);
        let logits = |directory: &Path| -> Vec<f32> {
            let model = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).load().unwrap();
            assert!(model.report().unwrap().mapped_bytes > 0);
            model.logits(&reference.tokens).unwrap().into_data().try_into_vec().unwrap()
        };
        let expected = logits(&original);
        let storages = [(Dtype::I8, 1), (Dtype::BF16, 2), (Dtype::F16, 2), (Dtype::F32, 4), (Dtype::F64, 8)];
        for (storage, size) in storages {
            let directory = copy_of_directory(&original);
            edit_tensors(directory.path(), |tensors| {
                for (_, (dtype, shape, _)) in tensors.iter_mut().filter(|(name, _)| name.ends_with(".weight")) {
                    if let (Dtype::U8, [bytes, 1]) = (*dtype, shape.as_slice()) {
                        (*dtype, *shape) = (storage, vec![bytes / size, 1]);
                    }
                }
            });
            assert!(logits(directory.path()) == expected, "{name} {storage:?}");
        }
    }
}

#[test]
fn a_quantised_head_is_read_in_4_bits_and_saved_so() {
    let config = QuantizationConfig::nf4().with_blocksize(Blocksize::new(32).unwrap());
    let dense_head = load("llama", Some(config.clone()));
    let model = load("llama", Some(config.clone().with_quantize_head(true)));
    let count =
        |model: &AutoModel| model.report().unwrap().encodings.iter().map(|entry| entry.parameters).sum::<usize>();
    assert_eq!(count(&model), count(&dense_head) + 1);
    let tokens = Reference::read("llama").tokens;
    let logits = |model: &AutoModel| model.logits(&tokens).unwrap().into_data().try_into_vec::<f32>().unwrap();
    let difference = distance(&logits(&dense_head), &logits(&model));
    assert!((1e-4..0.5).contains(&difference), "{difference} standard deviations between a dense and a 4-bit head");

    let directory = tempfile::tempdir().unwrap();
    let (saved, converted) = (directory.path().join("saved"), directory.path().join("converted"));
    model.save_pretrained(&saved, &SaveOptions::default()).unwrap();
    let source = AutoModelForCausalLM::from_pretrained(checkpoint("llama").to_str().unwrap());
    source
        .quantize_checkpoint(&converted, &config.clone().with_quantize_head(true), &RequantizeOptions::default())
        .unwrap();
    for directory in [saved, converted] {
        let again = AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap()).load().unwrap();
        assert_eq!(count(&again), count(&model), "{}", directory.display());
        assert!(logits(&again) == logits(&model), "{}", directory.display());
    }
    // A tied head stays dense.
    let tied = load("llama-tied", Some(config.clone().with_quantize_head(true)));
    assert_eq!(count(&tied), count(&load("llama-tied", Some(config))));
}

#[test]
fn fast_products_are_near_exact_ones() {
    let source = || AutoModelForCausalLM::from_pretrained(checkpoint("llama").to_str().unwrap());
    let config = QuantizationConfig::nf4().with_blocksize(Blocksize::new(32).unwrap());
    let last = |precision: Precision| {
        let model = source().quantize(config.clone()).precision(precision).load().unwrap();
        // A token at a time, as when decoding.
        let mut cache = model.model().new_cache(&CacheOptions::default());
        let mut logits = Vec::new();
        for token in Reference::read("llama").tokens {
            let batch = TokenBatch::new(&[[token]], model.model().vocab_size()).unwrap();
            let step = model.model().forward(&batch, LogitsFor::Last, &mut cache).unwrap();
            logits.extend(step.into_data().try_into_vec::<f32>().unwrap());
        }
        logits
    };
    let difference = distance(&last(Precision::Exact), &last(Precision::Fast));
    assert!(difference < 1e-3, "{difference} standard deviations");
}
