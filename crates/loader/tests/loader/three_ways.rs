//! The ways to 4 bits agree bit for bit: quantised while a dense checkpoint is loaded, quantised from file to file and then
//! loaded, and quantised by bitsandbytes. (GPUs against the host: `crates/automodel/tests/gpu/quantize.rs`.)

use crate::{
    common::{checkpoint, f32s, family_map, load, options, slot, values},
    convert::{convert, fixtures, parameter, tensors},
};
use automodel_loader::{LoadedParameters, QuantizationConfig, RequantizeOptions};
use automodel_quant::{
    Scheme,
    table16::{Absmax, Blocksize, NestedAbsmax, Quantized4bit},
};
use automodel_registry::weights::{ParameterRole, SourcePiece, ViewOp, WeightMap};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Everything that a 4-bit weight is, floats as bits.
type Bits = ([usize; 2], &'static str, Vec<u8>, Scales);

#[derive(Debug, PartialEq)]
enum Scales {
    Plain(Vec<u32>),
    Nested { codes: Vec<u8>, absmax: Vec<u32>, offset: u32 },
}

fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn bits(weight: &Quantized4bit) -> Bits {
    let scales = match weight.absmax() {
        Absmax::Plain(scales) => Scales::Plain(bits_of(scales)),
        Absmax::Nested(NestedAbsmax { codes, absmax, offset }) => {
            Scales::Nested { codes: codes.clone(), absmax: bits_of(absmax), offset: offset.to_bits() }
        }
    };
    (weight.shape(), weight.dtype().name(), weight.packed().to_vec(), scales)
}

fn quantized(mut parameters: LoadedParameters) -> BTreeMap<String, Quantized4bit> {
    let paths: Vec<String> = parameters.quantized_paths().map(str::to_owned).collect();
    paths.into_iter().map(|path| (path.clone(), parameters.take_quantized(&path).unwrap().table16().unwrap())).collect()
}

/// The 4-bit weights of one checkpoint, quantised while it is loaded and from file to file, after they were found equal. Experts,
/// which bitsandbytes cannot hold, are not among them.
fn both_ways(directory: &Path, map: &WeightMap, config: &QuantizationConfig) -> BTreeMap<String, Quantized4bit> {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    convert(directory, map, config, &out, &RequantizeOptions::default()).unwrap();
    let (of_files, report) = load(&out, map, &options()).unwrap();
    let of_files = quantized(of_files);
    let (while_loading, of_source) = load(directory, map, &options().with_quantization(config.clone())).unwrap();
    // Nothing but what the text model has no use for: the rest of a multimodal checkpoint.
    assert_eq!(report.unexpected, of_source.unexpected);
    let mut while_loading = quantized(while_loading);
    for slot in map.parameters.iter().filter(|slot| slot.role == ParameterRole::ExpertProjection) {
        assert!(while_loading.remove(&slot.path).is_some(), "{}", slot.path);
    }
    assert_eq!(
        while_loading.keys().collect::<Vec<_>>(),
        of_files.keys().collect::<Vec<_>>(),
        "{}",
        directory.display()
    );
    for (path, weight) in &of_files {
        assert!(bits(weight) == bits(&while_loading[path]), "{path} of {}", directory.display());
    }
    of_files
}

fn all_checkpoints() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures().join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn every_family_is_quantised_alike_while_loading_and_on_disk() {
    let folders = all_checkpoints();
    assert!(folders.len() > 60, "{}", folders.len());
    for directory in folders {
        let map = family_map(&directory);
        for scheme in [Scheme::nf4(), Scheme::fp4()] {
            for double_quant in [false, true] {
                let config = QuantizationConfig::new(scheme).with_double_quant(double_quant);
                let weights = both_ways(&directory, &map, &config);
                assert!(!weights.is_empty(), "{}", directory.display());
            }
        }
    }
}

#[test]
fn parts_that_are_no_whole_blocks_stay_dense_both_ways() {
    let (mut split, mut whole) = (0, 0);
    for name in ["phi3", "gpt2", "gpt_neox", "glm4", "llama", "mixtral"] {
        let directory = fixtures().join("checkpoints").join(name);
        let map = family_map(&directory);
        for size in [32, 256, 4096] {
            let config =
                QuantizationConfig::nf4().with_blocksize(Blocksize::new(size).unwrap()).with_double_quant(true);
            let weights = both_ways(&directory, &map, &config);
            let projections = map.parameters.iter().filter(|slot| slot.role == ParameterRole::Projection).count();
            (split, whole) = (split + projections - weights.len(), whole + weights.len());
            assert!(size > 32 || projections == weights.len(), "{name}");
        }
    }
    assert!(split > 0 && whole > 0, "{split} {whole}");
}

/// Rows of one matrix, each a parameter.
fn in_rows(shape: [usize; 2], parts: &[usize]) -> WeightMap {
    let mut start = 0;
    let mut map = WeightMap::default();
    for (number, &length) in parts.iter().enumerate() {
        let piece = SourcePiece::view("w.weight", &shape, vec![ViewOp::Narrow { axis: 0, start, length }]);
        map.parameters.push(slot(&format!("part{number}.weight"), &[length, shape[1]], vec![piece]));
        start += length;
    }
    map
}

fn matrix(shape: [usize; 2]) -> tempfile::TempDir {
    let waves: Vec<f32> =
        (0..shape[0] * shape[1]).map(|at| (at as f32 * 0.37).sin() * (1.0 + (at / 97) as f32)).collect();
    let directory = checkpoint(&[f32s("w.weight", &shape, &waves)]);
    fs::write(directory.path().join("config.json"), "{}").unwrap();
    directory
}

#[test]
fn scales_of_parts_are_nested_as_those_of_the_whole() {
    // 16 blocks a row, so that 16 rows are as many as share a scale of scales.
    let shape = [64, 1024];
    let directory = matrix(shape);
    let config = QuantizationConfig::nf4().with_double_quant(true);
    let one = both_ways(directory.path(), &in_rows(shape, &[64]), &config);
    let Absmax::Nested(whole) = one["part0.weight"].absmax() else { panic!("plain") };
    assert_eq!(whole.absmax.len(), 4);
    let decoded = whole.dequantize();
    // The first and the last part begin where a scale of scales does and keep theirs, the others have what they stand for.
    let parts = both_ways(directory.path(), &in_rows(shape, &[16, 10, 6, 32]), &config);
    let scales = |number: usize| parts[&format!("part{number}.weight")].absmax().clone();
    let nested = |blocks: std::ops::Range<usize>| {
        let absmax = whole.absmax[blocks.start / 256..blocks.end / 256].to_vec();
        Absmax::Nested(NestedAbsmax { codes: whole.codes[blocks].to_vec(), absmax, offset: whole.offset })
    };
    assert_eq!(scales(0), nested(0..256));
    let Absmax::Nested(second) = scales(1) else { panic!("it begins with a scale of scales") };
    assert_eq!((second.codes.as_slice(), second.offset), (&whole.codes[256..416], whole.offset));
    assert_eq!(scales(2), Absmax::Plain(decoded[416..512].to_vec()));
    assert_eq!(scales(3), nested(512..1024));
}

#[test]
fn what_is_not_quantised_as_a_whole_stays_dense_both_ways() {
    let shape = [8, 96];
    let directory = matrix(shape);
    let config = QuantizationConfig::nf4();
    let warnings = |map: &WeightMap, config: &QuantizationConfig| {
        assert!(both_ways(directory.path(), map, config).is_empty());
        let (parameters, report) = load(directory.path(), map, &options().with_quantization(config.clone())).unwrap();
        let dense = map.parameters.iter().all(|slot| !values(&parameters, &slot.path).is_empty());
        assert!(dense);
        report.warnings.join("\n")
    };
    let said = warnings(&in_rows(shape, &[3, 5]), &config);
    assert!(
        said.contains("2 parameter(s) stay dense, `part0.weight` first") && said.contains("within a block"),
        "{said}"
    );
    let said = warnings(&in_rows(shape, &[4, 2]), &config);
    assert!(said.contains("not all of it is read"), "{said}");
    // transformers has one module here, which is dense or not.
    let said = warnings(&in_rows(shape, &[4, 4]), &config.clone().with_skip_modules(["part1"]));
    assert!(said.contains("1 parameter(s) stay dense, `part0.weight` first, because"), "{said}");
    let mut map = in_rows(shape, &[4, 4]);
    map.parameters[1].role = ParameterRole::Router;
    assert!(warnings(&map, &config).contains("another part of it stays dense"));
    // Joined from two tensors, of which one has other readers.
    let mut map = in_rows(shape, &[4, 4]);
    let again = map.parameters[1].pieces[0].clone();
    map.parameters.push(slot("joined.weight", &[8, 96], vec![again.clone(), again]));
    assert!(warnings(&map, &config).contains("joined with other tensors"));
}

#[test]
fn one_selector_decides_for_both_ways() {
    let shape = [8, 96];
    let directory = matrix(shape);
    let reason = |map: &WeightMap, config: &QuantizationConfig| {
        assert!(both_ways(directory.path(), map, config).is_empty());
        let parent = tempfile::tempdir().unwrap();
        let report =
            convert(directory.path(), map, config, &parent.path().join("out"), &RequantizeOptions::default()).unwrap();
        assert!(report.quantized.is_empty());
        report.dense[0].reason
    };
    let config = QuantizationConfig::nf4();
    let mut kept = in_rows(shape, &[8]);
    kept.parameters[0].keep_float32 = true;
    assert_eq!(reason(&kept, &config), "the model keeps it in float32");
    let mut head = in_rows(shape, &[8]);
    head.parameters[0].role = ParameterRole::OutputHead;
    assert_eq!(reason(&head, &config), "the output head");
    assert_eq!(both_ways(directory.path(), &head, &config.clone().with_quantize_head(true)).len(), 1);
    // Skipped by its name in the model, in the weight map and in the files.
    let mut renamed = in_rows(shape, &[8]);
    renamed.parameters[0].pieces[0].tensor = "model.w.weight".into();
    renamed.prefixes = vec![("model.".into(), String::new())];
    for entry in ["part0", "model.w", "w"] {
        assert_eq!(reason(&renamed, &config.clone().with_skip_modules([entry])), "its module is skipped", "{entry}");
    }
    assert_eq!(both_ways(directory.path(), &renamed, &config).len(), 1);
}

#[test]
fn bitsandbytes_has_the_same_bits() {
    for (source, golden, config) in [
        ("llama", "llama-nf4", QuantizationConfig::nf4()),
        ("llama", "llama-nf4-double", QuantizationConfig::nf4().with_double_quant(true)),
        ("llama", "llama-fp4", QuantizationConfig::fp4()),
        ("gpt2", "gpt2-nf4", QuantizationConfig::nf4()),
        ("gpt2", "gpt2-nf4-double", QuantizationConfig::nf4().with_double_quant(true)),
        ("phi3", "phi3-nf4-double", QuantizationConfig::nf4().with_double_quant(true)),
        ("phi3", "phi3-fp4", QuantizationConfig::fp4()),
        ("gpt_neox", "gpt_neox-fp4-double", QuantizationConfig::fp4().with_double_quant(true)),
        ("glm4", "glm4-nf4-double", QuantizationConfig::nf4().with_double_quant(true)),
    ] {
        let (source, golden) =
            (fixtures().join("checkpoints").join(source), fixtures().join("bitsandbytes").join(golden));
        let map = family_map(&source);
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let report = convert(&source, &map, &config, &out, &RequantizeOptions::default()).unwrap();
        let (ours, theirs) = (tensors(&out), tensors(&golden));
        for name in &report.quantized {
            let (ours, theirs) = (parameter(&ours, name), parameter(&theirs, name));
            if let (Absmax::Nested(own), Absmax::Nested(other)) = (ours.absmax(), theirs.absmax()) {
                // torch sums the scales in an order that depends on the processor: the last bits of their mean may differ.
                assert!((own.offset - other.offset).abs() <= 4.0 * f32::EPSILON * other.offset, "{name}");
                let plain = quantized_plain(&source, &map, &config, name);
                let around_theirs = Absmax::Nested(NestedAbsmax::quantize_around(&plain, other.offset));
                assert!(bits(&theirs) == bits(&ours.clone().with_absmax(around_theirs).unwrap()), "{name}");
            } else {
                assert!(bits(&ours) == bits(&theirs), "{name}");
            }
        }
        // What is read of theirs is what is quantised while loading, but for that mean.
        let of_theirs = quantized(load(&golden, &map, &options()).unwrap().0);
        let while_loading = quantized(load(&source, &map, &options().with_quantization(config)).unwrap().0);
        assert_eq!(of_theirs.keys().collect::<Vec<_>>(), while_loading.keys().collect::<Vec<_>>());
        for (path, theirs) in &of_theirs {
            let ours = &while_loading[path];
            assert_eq!((ours.packed(), ours.shape()), (theirs.packed(), theirs.shape()), "{path}");
            for (ours, theirs) in ours.scales().iter().zip(theirs.scales()) {
                assert!((ours - theirs).abs() <= theirs.abs() * 1e-6, "{path}");
            }
        }
    }
}

/// The scales of a tensor before they are quantised too.
fn quantized_plain(source: &Path, map: &WeightMap, config: &QuantizationConfig, name: &str) -> Vec<f32> {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    convert(source, map, &config.clone().with_double_quant(false), &out, &RequantizeOptions::default()).unwrap();
    parameter(&tensors(&out), name).scales()
}
