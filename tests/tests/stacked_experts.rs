//! Checkpoints under the names of transformers' modules, as it writes them with `save_original_format=False`: experts are in two tensors a
//! layer.

use crate::sparse::weight_map;
use crate::support::{
    Reference, check_all, checkpoint, copy_of, copy_of_directory, distance, edit_tensors, fixture, load,
};
use automodel::loader::{QuantizationConfig, RequantizeOptions, SaveOptions};
use automodel::registry::weights::SourcePiece;
use automodel::{AutoModel, AutoModelForCausalLM};
use safetensors::Dtype;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const MIXTURES: [&str; 6] = ["mixtral", "qwen2_moe", "qwen2_moe-mixed", "qwen3_moe", "olmoe", "hy_v3"];

/// Of every tensor the shape and a checksum: the bits of each element times its place, added.
type Sums = BTreeMap<String, (Vec<usize>, String)>;

/// What transformers wrote of each mixture, by fixture.
fn written() -> BTreeMap<String, Sums> {
    let lines = fs::read_to_string(fixture("modules.jsonl")).unwrap();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let tensors = serde_json::from_value(row["tensors"].clone()).unwrap();
        (row["case"].as_str().unwrap().to_owned(), tensors)
    };
    lines.lines().map(row).collect()
}

fn sum(bytes: &[u8]) -> String {
    let (elements, _) = bytes.as_chunks::<4>();
    let products = (1_u64..).zip(elements).map(|(place, bits)| place.wrapping_mul(u32::from_le_bytes(*bits).into()));
    format!("{:016x}", products.fold(0, u64::wrapping_add))
}

/// The places in its tensor from which the elements of a piece come, in order.
fn places(piece: &SourcePiece) -> Vec<usize> {
    let view = piece.strided().unwrap();
    view.shape.iter().zip(&view.strides).fold(vec![view.offset], |places, (&size, &stride)| {
        places.iter().flat_map(|&place| (0..size).map(move |i| place + i * stride)).collect()
    })
}

/// A fixture with its parameters where the alternatives of its weight map say.
fn stacked(name: &str) -> TempDir {
    let directory = copy_of(name);
    let map = weight_map(&checkpoint(name).join("config.json"));
    edit_tensors(directory.path(), |tensors| {
        let own = std::mem::take(tensors);
        for slot in &map.parameters {
            let Some((_, _, stored)) = own.get(&slot.pieces[0].tensor) else {
                assert_eq!(slot.path, "lm_head.weight", "{name}");
                continue;
            };
            let [from] = &slot.pieces[..] else { panic!("{}: one piece", slot.path) };
            let [to] = &map.alternatives.get(&slot.path).unwrap_or(&slot.pieces)[..] else { panic!("one piece") };
            let size = 4 * to.tensor_shape.iter().product::<usize>();
            let (_, _, bytes) = tensors
                .entry(to.tensor.clone())
                .or_insert_with(|| (Dtype::F32, to.tensor_shape.clone(), vec![0; size]));
            for (from, to) in places(from).into_iter().zip(places(to)) {
                bytes[4 * to..][..4].copy_from_slice(&stored[4 * from..][..4]);
            }
        }
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
fn they_are_what_transformers_writes_and_load_as_views() {
    let written: Vec<(String, Sums)> = written().into_iter().collect();
    assert!(written.len() > 35, "{}", written.len());
    let names: Vec<&String> = written.iter().map(|(name, _)| name).collect();
    let by_name: BTreeMap<&String, &Sums> = written.iter().map(|(name, sums)| (name, sums)).collect();
    check_all(&names, |name| {
        let directory = stacked(name);
        let mut found = Sums::new();
        edit_tensors(directory.path(), |tensors| {
            for (name, (_, shape, bytes)) in tensors {
                found.insert(name.clone(), (shape.clone(), sum(bytes)));
            }
        });
        let expected = by_name[name];
        if let Some(other) = expected.iter().find(|(tensor, sums)| found.get(*tensor) != Some(sums)) {
            return Err(format!("{other:?} is {:?}", found.get(other.0)));
        }
        if let Some(surplus) = found.keys().find(|tensor| !expected.contains_key(*tensor)) {
            return Err(format!("{surplus} is not written"));
        }
        let model = load(directory.path()).map_err(|error| error.to_string())?;
        let report = model.report().unwrap();
        if !report.unexpected.is_empty() || !report.warnings.is_empty() {
            return Err(format!("{report:?}"));
        }
        let distance = distance(&Reference::read(name).logits, &logits(&model, name));
        if distance < 1e-4 { Ok(()) } else { Err(format!("{distance} from transformers")) }
    });
}

#[test]
fn their_weights_stay_in_the_file() {
    for name in MIXTURES {
        let directory = stacked(name);
        assert_eq!(load(directory.path()).unwrap().report().unwrap().copied_bytes, 0, "{name}");
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
        let skipping = config.with_skip_modules([".*mlp.experts"]);
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
