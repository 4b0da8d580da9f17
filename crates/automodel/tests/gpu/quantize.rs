//! Weights that a GPU quantises, a software driver included, against those of the host and of files: the same bits for every family.

use super::device;
use super::families::folders;
use automodel::loader::{QuantizationConfig, RequantizeOptions};
use automodel::quant::table16::{Absmax, NestedAbsmax, Quantized4bit};
use automodel::{AutoModel, AutoModelError, AutoModelForCausalLM, Device};
use std::collections::BTreeMap;
use std::path::Path;

fn load(folder: &Path, device: &Device, config: Option<&QuantizationConfig>) -> AutoModel {
    let builder = AutoModelForCausalLM::from_pretrained(folder.display().to_string()).device(device.clone());
    match config {
        Some(config) => builder.quantize(config.clone()).load().unwrap(),
        None => builder.load().unwrap(),
    }
}

fn weights(model: &AutoModel) -> BTreeMap<String, Quantized4bit> {
    let mut weights = BTreeMap::new();
    model.model().read_quantized(&mut |path, layer| {
        weights.insert(path.to_owned(), layer.to_weight().and_then(|weight| weight.table16()).unwrap());
    });
    weights
}

/// Codes, and scales by their bits: codes of scales, their scales and offset where they are nested.
fn bits(weight: &Quantized4bit) -> (Vec<u8>, Vec<u8>, Vec<u32>) {
    let bits_of = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (codes, scales) = match weight.absmax() {
        Absmax::Plain(scales) => (Vec::new(), bits_of(scales)),
        Absmax::Nested(NestedAbsmax { codes, absmax, offset }) => {
            (codes.clone(), [bits_of(absmax), vec![offset.to_bits()]].concat())
        }
    };
    (weight.packed().to_vec(), codes, scales)
}

#[test]
fn every_family_is_quantised_alike_on_the_gpu_on_the_host_and_on_disk() {
    let Some((device, _)) = device() else { return };
    let mut nested = 0;
    for folder in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        // The other codes and plain scales have the kernels and the places that `quant` and `loader` test.
        let config = QuantizationConfig::nf4().with_double_quant(true);
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let checkpoint = AutoModelForCausalLM::from_pretrained(folder.display().to_string());
        match checkpoint.quantize_checkpoint(&out, &config, &RequantizeOptions::default()) {
            // The text model of a larger one is not quantised from file to file.
            Err(AutoModelError::QuantizeWrapped { .. }) => continue,
            done => done.unwrap(),
        };
        // On the GPU scales stay in 8 bits where they can, so that files and loading are compared there.
        let (there, of_files) = (weights(&load(&folder, &device, Some(&config))), weights(&load(&out, &device, None)));
        let here = weights(&load(&folder, &Device::flex(), Some(&config)));
        assert!(!of_files.is_empty(), "{name}");
        assert_eq!(there.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>(), "{name}");
        for (path, weight) in &there {
            let on_host = &here[path];
            assert_eq!(weight.packed(), on_host.packed(), "{name} {path}");
            let same = weight.scales().iter().zip(on_host.scales()).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name} {path}: other scales on the host");
            nested += usize::from(matches!(weight.absmax(), Absmax::Nested(_)));
            match of_files.get(path) {
                Some(of_files) => assert!(bits(weight) == bits(of_files), "{name} {path}"),
                None => assert!(path.contains("experts"), "{name} {path}"),
            }
        }
    }
    assert!(nested > 0);
}
