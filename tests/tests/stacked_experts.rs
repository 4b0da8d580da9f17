//! Checkpoints whose experts are in two tensors a layer, as transformers writes them with `save_original_format=False`.

use crate::support::{Reference, copy_of, copy_of_directory, distance, edit_tensors, load};
use automodel::loader::{QuantizationConfig, RequantizeOptions, SaveOptions};
use automodel::{AutoModel, AutoModelForCausalLM};
use safetensors::Dtype;
use std::path::Path;
use tempfile::TempDir;

const MIXTURES: [&str; 5] = ["mixtral", "qwen2_moe", "qwen2_moe-mixed", "qwen3_moe", "olmoe"];

/// Names of an expert's projections in checkpoints: gate, up, down.
fn projections(name: &str) -> [&'static str; 3] {
    if name == "mixtral" { ["w1", "w3", "w2"] } else { ["gate_proj", "up_proj", "down_proj"] }
}

/// A fixture with the experts of each layer joined, under the names of transformers' modules.
fn stacked(name: &str) -> TempDir {
    let directory = copy_of(name);
    let [gate, up, down] = projections(name);
    edit_tensors(directory.path(), |tensors| {
        let own = std::mem::take(tensors);
        let mut count = 0;
        for (name, (dtype, shape, bytes)) in &own {
            let name = name.replace("block_sparse_moe", "mlp");
            let Some((module, rest)) = name.split_once(".experts.") else {
                tensors.insert(name, (*dtype, shape.clone(), bytes.clone()));
                continue;
            };
            let part = |expert: usize, projection: &str| {
                let [name, original] = [module.to_owned(), module.replace("mlp", "block_sparse_moe")]
                    .map(|module| format!("{module}.experts.{expert}.{projection}.weight"));
                own.get(&name).or_else(|| own.get(&original))
            };
            // Once for each layer.
            if !rest.starts_with("0.") || !rest.contains(gate) {
                continue;
            }
            let experts = (0..).take_while(|expert| part(*expert, gate).is_some()).count();
            let join = |parts: &[&str]| -> Vec<u8> {
                let each = (0..experts).flat_map(|expert| parts.iter().map(move |projection| (expert, *projection)));
                each.flat_map(|(expert, projection)| part(expert, projection).unwrap().2.clone()).collect()
            };
            let [rows, columns] = shape[..] else { panic!("{name}: {shape:?}") };
            tensors.insert(
                format!("{module}.experts.gate_up_proj"),
                (Dtype::F32, vec![experts, 2 * rows, columns], join(&[gate, up])),
            );
            tensors.insert(
                format!("{module}.experts.down_proj"),
                (Dtype::F32, vec![experts, columns, rows], join(&[down])),
            );
            count += 1;
        }
        assert!(count > 0, "no experts were joined");
    });
    directory
}

fn logits(model: &AutoModel, name: &str) -> Vec<f32> {
    model.logits(&Reference::read(name).tokens).unwrap().into_data().try_into_vec().unwrap()
}

fn pretrained(directory: &Path) -> automodel::FromPretrained {
    AutoModelForCausalLM::from_pretrained(directory.to_str().unwrap())
}

#[test]
fn their_logits_are_those_of_transformers_and_the_weights_stay_in_the_file() {
    for name in MIXTURES {
        let directory = stacked(name);
        let model = load(directory.path()).unwrap();
        let report = model.report().unwrap();
        assert!(report.unexpected.is_empty() && report.warnings.is_empty(), "{name}: {report:?}");
        assert_eq!(report.copied_bytes, 0, "{name}");
        assert!(distance(&Reference::read(name).logits, &logits(&model, name)) < 1e-4, "{name}");
        let plan = pretrained(directory.path()).inspect().unwrap().plan;
        let row = plan.rows.iter().find(|row| row.parameter().ends_with(".mlp.experts.1.up_proj.weight")).unwrap();
        assert!(
            row.is_mapped() && row.sources().next().unwrap().tensor.ends_with(".mlp.experts.gate_up_proj"),
            "{name}: {row:?}"
        );
    }
}

#[test]
fn they_are_quantised_to_the_same_codes() {
    for name in MIXTURES {
        for double_quant in [false, true] {
            let config = QuantizationConfig::nf4().with_double_quant(double_quant);
            let of = |directory: &Path| pretrained(directory).quantize(config.clone()).load().unwrap();
            let (apart, joined) = (copy_of(name), stacked(name));
            let (apart, joined) = (of(apart.path()), of(joined.path()));
            let encoded = |model: &AutoModel| model.report().unwrap().encodings.clone();
            assert_eq!(encoded(&apart), encoded(&joined), "{name}");
            assert!(logits(&apart, name) == logits(&joined, name), "{name}");
        }
    }
}

#[test]
fn what_is_saved_or_quantised_of_them_loads_again() {
    for name in MIXTURES {
        let directory = stacked(name);
        let model = load(directory.path()).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let (saved, converted) = (parent.path().join("saved"), parent.path().join("converted"));
        model.save_pretrained(&saved, &SaveOptions::default()).unwrap();
        assert!(logits(&load(&saved).unwrap(), name) == logits(&model, name), "{name}");

        // Experts stay dense, as where they are apart.
        let (config, options) = (QuantizationConfig::nf4(), RequantizeOptions::default());
        let report = pretrained(directory.path()).quantize_checkpoint(&converted, &config, &options).unwrap();
        assert!(!report.quantized.is_empty() && report.quantized.iter().all(|tensor| !tensor.contains(".experts.")));
        let again = load(&converted).unwrap();
        let skipping = config.with_skip_modules([".*experts"]);
        let streamed = pretrained(directory.path()).quantize(skipping).load().unwrap();
        assert!(distance(&logits(&streamed, name), &logits(&again, name)) < 1e-5, "{name}");
    }
}

#[test]
fn what_is_missing_or_of_another_shape_is_named() {
    let directory = stacked("qwen3_moe");
    let copy = copy_of_directory(directory.path());
    edit_tensors(copy.path(), |tensors| {
        tensors.remove("model.layers.0.mlp.experts.down_proj").unwrap();
        let (_, shape, _) = tensors.get_mut("model.layers.0.mlp.experts.gate_up_proj").unwrap();
        shape.swap(1, 2);
        shape[1] *= 2;
        shape[2] /= 2;
    });
    let said = load(copy.path()).unwrap_err().to_string();
    for part in ["model.layers.0.mlp.experts.down_proj", "model.layers.0.mlp.experts.gate_up_proj` is [6, 64, 16]"] {
        assert!(said.contains(part), "{said}");
    }
}
