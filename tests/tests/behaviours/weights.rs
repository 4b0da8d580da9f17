//! Weights: ties, dtypes, single parameters.

use super::{fixture, logits};
use crate::support::{
    Reference, Tensors, assert_says, checkpoint, copy_of, distance, edit_json, edit_tensors, load, message,
};
use automodel::loader::{SaveOptions, TieOutcome, TieReport};
use automodel::models::parameters::ParameterTensor;
use automodel::{AutoModel, Dtype};
use burn::tensor::DType;
use safetensors::SafeTensors;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// The `llama-tied` fixture after `edit` to its tensors.
fn tied_llama(edit: impl FnOnce(&mut Tensors)) -> AutoModel {
    let directory = copy_of("llama-tied");
    edit_tensors(directory.path(), edit);
    load(directory.path()).unwrap()
}

fn tie(outcome: TieOutcome) -> Vec<TieReport> {
    vec![TieReport { parameter: HEAD.to_owned(), to: EMBEDDING.to_owned(), outcome }]
}

fn values(model: &AutoModel, wanted: &str) -> Option<ParameterTensor> {
    let mut found = None;
    model.model().read_parameters(&mut |path, value| {
        if path == wanted {
            found = Some(value);
        }
    });
    found
}

#[test]
fn a_head_that_the_file_lacks_follows_the_embedding() {
    let model = tied_llama(|tensors| assert!(!tensors.contains_key(HEAD)));
    assert_eq!(model.report().unwrap().tied, tie(TieOutcome::Shared));
    assert_eq!(model.tied(), [(HEAD.to_owned(), EMBEDDING.to_owned())]);
}

#[test]
fn an_embedding_that_the_file_lacks_follows_the_head() {
    let model = tied_llama(|tensors| {
        let embedding = tensors.remove(EMBEDDING).unwrap();
        tensors.insert(HEAD.to_owned(), embedding);
    });
    assert_eq!(model.tied(), [(EMBEDDING.to_owned(), HEAD.to_owned())]);
    assert_eq!(logits(&model), logits(&fixture("llama-tied").load().unwrap()));
}

#[test]
fn equal_copies_share_storage() {
    let model = tied_llama(|tensors| {
        let embedding = tensors[EMBEDDING].clone();
        tensors.insert(HEAD.to_owned(), embedding);
    });
    assert_eq!(model.report().unwrap().tied, tie(TieOutcome::EqualAndShared));
    assert_eq!(logits(&model), logits(&fixture("llama-tied").load().unwrap()));
}

#[test]
fn different_copies_stay_apart_with_a_warning() {
    let model = tied_llama(|tensors| {
        let mut head = tensors[EMBEDDING].clone();
        head.2[..4].copy_from_slice(&7.5_f32.to_le_bytes());
        tensors.insert(HEAD.to_owned(), head);
    });
    assert_eq!(model.report().unwrap().tied, tie(TieOutcome::DifferentAndApart));
    assert!(model.tied().is_empty());
    assert_says(&model.report().unwrap().warnings.join("\n"), &[HEAD, EMBEDDING]);
    assert_ne!(logits(&model), logits(&fixture("llama-tied").load().unwrap()));
}

#[test]
fn nothing_is_tied_that_the_config_does_not_tie() {
    let directory = copy_of("llama-tied");
    edit_json(directory.path(), "config.json", |config| config["tie_word_embeddings"] = json!(false));
    let said = message(&load(directory.path()).unwrap_err());
    assert_says(&said, &["1 tensor(s) missing: `lm_head.weight`", "does not tie", "tie_word_embeddings"]);
}

#[test]
fn a_request_that_flips_the_tie_flag_is_refused() {
    for (name, flipped) in [("llama", true), ("llama-tied", false)] {
        let said = message(&fixture(name).config_override("tie_word_embeddings", flipped).load().unwrap_err());
        assert_says(
            &said,
            &[&format!("tie_word_embeddings is {}", !flipped), "cannot be overridden", "leave the override out"],
        );
    }
    fixture("llama-tied").config_override("tie_word_embeddings", true).load().unwrap();
}

#[test]
fn half_precision_stays_in_the_file_on_the_cpu_and_computes_in_float32() {
    for (name, stored, dtype) in [("llama-bf16", "BF16", DType::BF16), ("llama-f16", "F16", DType::F16)] {
        let summary = fixture(name).inspect().unwrap();
        assert_eq!(summary.stored_bytes.keys().collect::<Vec<_>>(), [stored]);
        assert_eq!(
            summary.target_bytes.keys().collect::<BTreeSet<_>>(),
            BTreeSet::from([&stored.to_owned(), &"F32".to_owned()])
        );
        assert!(summary.target_bytes["F32"] * 20 < summary.target_bytes[stored], "norms only");
        assert_eq!(summary.mapped_bytes, summary.target_bytes[stored]);
        assert_says(&summary.dtype_reasons.join("\n"), &[stored, "to F32", "an explicit dtype overrides"]);

        let model = fixture(name).load().unwrap();
        let dtype_of = |path| values(&model, path).unwrap().dtype();
        assert_eq!(dtype_of("model.layers.0.mlp.up_proj.weight"), dtype);
        assert_eq!(dtype_of("model.norm.weight"), DType::F32);
        let converted = fixture(name).dtype(Dtype::Float32).load().unwrap();
        let tokens = Reference::read(name).tokens;
        let logits = |model: &AutoModel| -> Vec<f32> {
            let logits = model.logits(&tokens).unwrap();
            assert_eq!(logits.dtype(), DType::F32);
            logits.into_data().try_into_vec().unwrap()
        };
        let distance = distance(&logits(&converted), &logits(&model));
        assert!(distance < 1e-5, "{name}: {distance} standard deviations from float32 copies of the weights");
    }
}

#[test]
fn what_was_only_widened_is_saved_as_it_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let stored = |directory: &Path| {
        let bytes = fs::read(directory.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        tensors
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.dtype(), tensor.data().to_vec()))
            .collect::<BTreeSet<_>>()
    };
    let copy = directory.path().join("copy");
    fixture("llama-bf16").load().unwrap().save_pretrained(&copy, &SaveOptions::default()).unwrap();
    assert_eq!(stored(&copy), stored(&checkpoint("llama-bf16")));

    let wide = directory.path().join("wide");
    let model = fixture("llama-bf16").dtype(Dtype::Float32).load().unwrap();
    model.save_pretrained(&wide, &SaveOptions::default()).unwrap();
    assert!(stored(&wide).iter().all(|(_, dtype, _)| *dtype == safetensors::Dtype::F32));
}

#[test]
fn an_explicit_dtype_is_the_wider_of_file_and_request() {
    let dtypes = |name: &str, asked| {
        let mut dtypes = Vec::new();
        fixture(name).dtype(asked).load().unwrap().model().read_parameters(&mut |_, value| dtypes.push(value.dtype()));
        dtypes.dedup();
        dtypes
    };
    assert_eq!(dtypes("llama-bf16", Dtype::BFloat16), [DType::BF16]);
    assert_eq!(dtypes("llama-f16", Dtype::Float16), [DType::F16]);
    assert_eq!(dtypes("llama-bf16", Dtype::Float32), [DType::F32]);
    assert_eq!(dtypes("llama", Dtype::BFloat16), [DType::F32]);
}

#[test]
fn half_precision_runs_near_its_reference() {
    for (name, dtype, tolerance) in [("llama-bf16", Dtype::BFloat16, 0.2), ("llama-f16", Dtype::Float16, 0.02)] {
        let reference = Reference::read(name);
        let model = fixture(name).dtype(dtype).load().unwrap();
        let found: Vec<f32> = model.logits(&reference.tokens).unwrap().into_data().try_into_vec().unwrap();
        let distance = distance(&reference.logits, &found);
        assert!(distance < tolerance, "{name}: {distance} standard deviations");
    }
}

#[test]
fn a_parameter_is_found_by_its_full_name() {
    let model = fixture("llama").load().unwrap();
    let bytes = fs::read(checkpoint("llama").join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let name = "model.layers.1.self_attn.k_proj.weight";
    let stored = tensors.tensor(name).unwrap();
    let expected: Vec<f32> = stored.data().as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let found = values(&model, name).unwrap();
    assert_eq!(found.shape(), stored.shape());
    assert_eq!(found.tensor::<2>().unwrap().into_data().try_into_vec::<f32>().unwrap(), expected);
    assert!(values(&model, "self_attn.k_proj.weight").is_none());
}
