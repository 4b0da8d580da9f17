//! Models without values: every parameter has a place in the checkpoint, and none takes memory.

use crate::sparse::weight_map;
use crate::support::{check_all, fixture};
use automodel::attention::SdpaBackend;
use automodel::config::{Overrides, RawConfig};
use automodel::models::scope::{DefaultDtype, RealAllocation};
use automodel::models::{CausalLm, Decoder, Model, ModelOptions};
use automodel::registry::spec::ModelSpec;
use automodel::registry::{Registry, ResolveOptions};
use automodel::{AutoModelForCausalLM, Device};
use burn::tensor::DType;
use serde_json::json;
use std::fs;
use std::path::Path;

fn spec(raw: RawConfig) -> ModelSpec {
    let registry = Registry::builtin();
    let defaults = registry.class_defaults(&raw).unwrap();
    let config = raw.resolve(defaults, &Overrides::new()).unwrap();
    let resolution = registry.resolve(&config, &ResolveOptions::default()).unwrap();
    registry.lower(&config, &resolution).unwrap().spec.unwrap()
}

fn skeleton(spec: &ModelSpec) -> Decoder {
    Decoder::new(spec, ModelOptions::new(SdpaBackend::Math), &Device::flex()).unwrap()
}

fn parameters(model: &dyn CausalLm) -> Vec<(String, Vec<usize>)> {
    let mut found = Vec::new();
    model.visit_parameters(&mut |path, shape| found.push((path.to_owned(), shape.to_vec())));
    found
}

/// Some of these models have more than a hundred billion bytes of weights: were any allocated, this would not end well.
#[test]
fn every_parameter_of_a_skeleton_has_its_place_in_the_weight_map() {
    let files = fs::read_dir(fixture("configs")).unwrap().map(|entry| entry.unwrap().path());
    let configs: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    assert!(configs.len() > 50);
    check_all(&configs, |path| {
        let mut of_module = parameters(&skeleton(&spec(RawConfig::from_file(Path::new(path)).unwrap())));
        let slots = weight_map(Path::new(path)).parameters;
        let mut of_map: Vec<_> = slots.into_iter().map(|slot| (slot.path, slot.shape)).collect();
        of_module.sort();
        of_map.sort();
        let differ = || of_module.iter().zip(&of_map).find(|(module, map)| module != map);
        if of_module == of_map { Ok(()) } else { Err(format!("{:?}", differ())) }
    });
}

fn small() -> RawConfig {
    let config = json!({"model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": true});
    RawConfig::from_value(config).unwrap()
}

#[test]
fn real_allocation_can_be_asked_for_with_a_dtype() {
    let spec = spec(small());
    let model = {
        let _real = RealAllocation::enter();
        let _half = DefaultDtype::enter("Decoder", DType::BF16).unwrap();
        skeleton(&spec)
    };
    let mut seen = 0;
    model.read_parameters(&mut |path, value| {
        assert_eq!(value.dtype(), DType::BF16, "{path}");
        seen += 1;
    });
    assert_eq!(seen, parameters(&model).len());
    // Outside the scope nothing is allocated again, so that there is nothing to read.
    let empty = skeleton(&spec);
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| empty.read_parameters(&mut |_, _| {})));
    assert!(read.is_err());
}

#[test]
fn a_config_alone_makes_a_model_of_the_dtype_asked_for() {
    let build = |dtype| AutoModelForCausalLM::from_config(small()).dtype(dtype).seed(3).build().unwrap();
    for (asked, expected) in [(automodel::Dtype::Auto, DType::F32), (automodel::Dtype::BFloat16, DType::BF16)] {
        let model = build(asked);
        model.model().read_parameters(&mut |path, value| assert_eq!(value.dtype(), expected, "{path}"));
        assert_eq!(model.tied(), [("lm_head.weight".to_owned(), "model.embed_tokens.weight".to_owned())]);
    }
}
