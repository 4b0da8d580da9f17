//! Checkpoints quantised from file to file.

use crate::common::{bf16s, checkpoint, counting, f32s, message, sharded, slot};
use automodel_config::{Overrides, RawConfig};
use automodel_loader::{
    CheckpointFiles, LoadError, QuantizationConfig, RequantizeOptions, RequantizeReport, SaveFiles, quantize_checkpoint,
};
use automodel_quant::{
    QuantWeight,
    files::StoredTensor,
    table16::{Absmax, Quantized4bit, format},
};
use automodel_registry::{
    Registry, ResolveOptions,
    weights::{ParameterRole, SourcePiece, ViewOp, WeightMap},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The weight map of the model in a directory.
pub fn model_map(directory: &Path) -> WeightMap {
    let registry = Registry::builtin();
    let raw = RawConfig::from_str(&fs::read_to_string(directory.join("config.json")).unwrap()).unwrap();
    let config = raw.clone().resolve(registry.class_defaults(&raw).unwrap(), &Overrides::new()).unwrap();
    let resolution = registry.resolve(&config, &ResolveOptions::default()).unwrap();
    registry.lower(&config, &resolution).unwrap().weights
}

pub fn convert(
    source: &Path,
    map: &WeightMap,
    config: &QuantizationConfig,
    out: &Path,
    options: &RequantizeOptions,
) -> Result<RequantizeReport, LoadError> {
    let files = CheckpointFiles::open(source)?;
    quantize_checkpoint(&files, map, config, out, options, &SaveFiles::default(), &mut |_| {})
}

type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// All tensors, as the reference implementation reads them.
pub fn tensors(directory: &Path) -> Tensors {
    let mut all = Tensors::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors")
            && !path.ends_with("reference.safetensors")
        {
            let bytes = fs::read(&path).unwrap();
            for (name, tensor) in safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let value = (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec());
                assert!(all.insert(name, value).is_none());
            }
        }
    }
    all
}

pub fn parameter(tensors: &Tensors, name: &str) -> Quantized4bit {
    let find = |name: &str| {
        let (dtype, shape, data) = tensors.get(name)?.clone();
        Some(StoredTensor { dtype, shape, data: data.into() })
    };
    format::read_parameter(name, find).unwrap()
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_same_tensors_and_config_as_transformers_with_bitsandbytes() {
    for (source, golden, config) in [
        ("llama", "llama-nf4", QuantizationConfig::nf4()),
        ("llama", "llama-nf4-double", QuantizationConfig::nf4().with_double_quant(true)),
        ("llama", "llama-fp4", QuantizationConfig::fp4()),
        ("gpt2", "gpt2-nf4", QuantizationConfig::nf4()),
    ] {
        let (source, golden) =
            (fixtures().join("checkpoints").join(source), fixtures().join("bitsandbytes").join(golden));
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let report = convert(&source, &model_map(&source), &config, &out, &RequantizeOptions::default()).unwrap();
        let (ours, theirs) = (tensors(&out), tensors(&golden));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        for (name, tensor) in &theirs {
            // The mean of the scales may differ in its last bits, and with it what follows from it.
            let follows = config.scheme.is_joint()
                && [".absmax", ".nested_absmax", "__nf4"].iter().any(|end| name.ends_with(end));
            assert!(follows || ours[name] == *tensor, "{name} of {}", golden.display());
        }
        for name in &report.quantized {
            let (ours, theirs) = (parameter(&ours, name), parameter(&theirs, name));
            for (ours, theirs) in ours.scales().iter().zip(theirs.scales()) {
                assert!((ours - theirs).abs() <= theirs.abs() * 1e-6, "{name}");
            }
        }
        assert_eq!(json(&out.join("config.json")), json(&golden.join("config.json")), "{}", golden.display());
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    }
}

/// A projection, a fused one, a transposed one, an embedding, a norm, a head, an expert, a router.
fn map() -> WeightMap {
    let mut map = WeightMap::default();
    let mut add = |role, path: &str, shape: &[usize], piece: SourcePiece| {
        let mut slot = slot(path, shape, vec![piece]);
        slot.role = role;
        map.parameters.push(slot);
    };
    let whole = |name: &str, shape: &[usize]| SourcePiece::whole(name, shape);
    add(ParameterRole::Embedding, "model.embed_tokens.weight", &[8, 32], whole("model.embed_tokens.weight", &[8, 32]));
    for (start, part) in [(0, "q_proj"), (4, "k_proj")] {
        let rows = vec![ViewOp::Narrow { axis: 0, start, length: 4 }];
        let fused = SourcePiece::view("model.layers.0.joined.weight", &[8, 32], rows);
        add(ParameterRole::Projection, &format!("model.layers.0.{part}.weight"), &[4, 32], fused);
    }
    let transposed = SourcePiece::view("model.layers.0.c_fc.weight", &[32, 5], vec![ViewOp::Transpose(0, 1)]);
    add(ParameterRole::Projection, "model.layers.0.up_proj.weight", &[5, 32], transposed);
    let down = "model.layers.0.down_proj.weight";
    add(ParameterRole::Projection, down, &[7, 9], whole(down, &[7, 9]));
    let expert = "model.layers.0.experts.0.w1.weight";
    add(ParameterRole::ExpertProjection, expert, &[6, 6], whole(expert, &[6, 6]));
    let gate = "model.layers.0.mlp.gate.weight";
    add(ParameterRole::Router, gate, &[2, 32], whole(gate, &[2, 32]));
    add(ParameterRole::Norm, "model.norm.weight", &[32], whole("model.norm.weight", &[32]));
    add(ParameterRole::OutputHead, "lm_head.weight", &[8, 32], whole("lm_head.weight", &[8, 32]));
    map
}

fn waves(elements: usize) -> Vec<f32> {
    (0..elements).map(|at| (at as f32 * 0.7).sin()).collect()
}

fn source() -> tempfile::TempDir {
    let directory = sharded(&[
        (
            "a.safetensors",
            vec![
                f32s("lm_head.weight", &[8, 32], &counting(256)),
                bf16s("model.layers.0.down_proj.weight", &[7, 9], &waves(63)),
                f32s("model.layers.0.c_fc.weight", &[32, 5], &waves(160)),
                f32s("model.layers.0.mlp.gate.weight", &[2, 32], &waves(64)),
            ],
        ),
        (
            "b.safetensors",
            vec![
                bf16s("model.embed_tokens.weight", &[8, 32], &counting(256)),
                f32s("model.layers.0.experts.0.w1.weight", &[6, 6], &waves(36)),
                bf16s("model.layers.0.joined.weight", &[8, 32], &waves(256)),
                f32s("model.norm.weight", &[32], &counting(32)),
                f32s("buffer", &[3], &counting(3)),
            ],
        ),
    ]);
    fs::write(directory.path().join("config.json"), json!({"dtype": "bfloat16", "model_type": "x"}).to_string())
        .unwrap();
    directory
}

const QUANTIZED: [&str; 3] =
    ["model.layers.0.c_fc.weight", "model.layers.0.down_proj.weight", "model.layers.0.joined.weight"];

#[test]
fn what_is_quantised_and_what_is_copied() {
    let (source, parent) = (source(), tempfile::tempdir().unwrap());
    let before = tensors(source.path());
    let (mut files, mut seen) = (Vec::new(), Vec::new());
    for max_shard_bytes in [u64::MAX, 1500, 0] {
        let mut options = RequantizeOptions::default();
        options.max_shard_bytes = max_shard_bytes;
        let out = parent.path().join(format!("out-{max_shard_bytes}"));
        let config = QuantizationConfig::nf4();
        let opened = CheckpointFiles::open(source.path()).unwrap();
        seen.clear();
        let report =
            quantize_checkpoint(&opened, &map(), &config, &out, &options, &SaveFiles::default(), &mut |progress| {
                seen.push((progress.bytes_done, progress.bytes_total));
            });
        let report = report.unwrap();
        assert_eq!(report.quantized, QUANTIZED);
        assert_eq!(report.dense.iter().map(|dense| dense.reason).filter(|r| r.contains("expert")).count(), 1);
        assert_eq!((report.dense.len(), report.tensors), (4, 6 + 3 * 4));
        assert_eq!(seen.last(), Some(&(report.source_bytes, report.source_bytes)));
        let after = tensors(&out);
        for (name, tensor) in before.iter().filter(|(name, _)| !QUANTIZED.contains(&name.as_str())) {
            assert_eq!(&after[name], tensor, "{name}");
        }
        assert_eq!(parameter(&after, QUANTIZED[0]).shape(), [5, 32], "transposed");
        assert_eq!(parameter(&after, QUANTIZED[1]).dtype().name(), "bfloat16");
        let mut transposed = vec![0.0; 160];
        for (at, value) in waves(160).into_iter().enumerate() {
            transposed[at % 5 * 32 + at / 5] = value;
        }
        let expected = QuantWeight::quantize(config.scheme, [5, 32], transposed[..].into()).unwrap().table16().unwrap();
        assert_eq!(parameter(&after, QUANTIZED[0]), expected);
        // Every tensor begins where its elements are aligned, as torch needs it.
        let opened = CheckpointFiles::open(&out).unwrap();
        assert!(opened.tensors().values().all(|info| info.range.start.is_multiple_of(info.dtype.bits() / 8)));
        assert_eq!(opened.shards().len(), report.shards.len());
        files.push((report.shards.len(), after));
        assert_eq!(json(&out.join("config.json"))["quantization_config"]["bnb_4bit_compute_dtype"], "bfloat16");
        let skip = &json(&out.join("config.json"))["quantization_config"]["llm_int8_skip_modules"];
        assert_eq!(*skip, json!(["lm_head", "mlp.gate"]));
    }
    assert_eq!(files.iter().map(|(shards, _)| *shards).collect::<Vec<_>>(), [1, 3, 9]);
    assert!(files.iter().all(|(_, tensors)| *tensors == files[0].1), "however they are cut");
}

#[test]
fn modules_that_are_skipped_stay_dense_and_are_listed() {
    let (source, parent) = (source(), tempfile::tempdir().unwrap());
    let out = parent.path().join("out");
    // By the name in the files, by that of a part of a fused tensor, by nothing at all.
    let config = QuantizationConfig::nf4().with_double_quant(true).with_skip_modules(["c_fc", "k_proj", "nothing"]);
    let report = convert(source.path(), &map(), &config, &out, &RequantizeOptions::default()).unwrap();
    assert_eq!(report.quantized, QUANTIZED[1..2]);
    assert!(report.warnings.iter().any(|warning| warning.contains("\"nothing\"")), "{:?}", report.warnings);
    let declared = &json(&out.join("config.json"))["quantization_config"];
    assert_eq!(
        declared["llm_int8_skip_modules"],
        json!(["c_fc", "k_proj", "nothing", "lm_head", "joined", "mlp.gate"])
    );
    assert_eq!(declared["bnb_4bit_use_double_quant"], true);
    assert!(matches!(parameter(&tensors(&out), QUANTIZED[1]).absmax(), Absmax::Nested(_)));
}

#[test]
fn what_cannot_be_converted_is_named_and_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let (out, options, config) = (parent.path().join("out"), RequantizeOptions::default(), QuantizationConfig::nf4());
    let one = || {
        let mut map = WeightMap::default();
        map.parameters.push(slot("a.weight", &[2, 2], vec![SourcePiece::whole("a.weight", &[2, 2])]));
        map
    };
    let source = checkpoint(&[f32s("a.weight", &[2, 2], &[1.0, 2.0, f32::NAN, 0.0])]);
    let error = convert(source.path(), &one(), &config, &out, &options).unwrap_err();
    assert!(matches!(error, LoadError::Io { .. }) && error.to_string().contains("config.json"), "{error}");

    fs::write(source.path().join("config.json"), "{}").unwrap();
    let error = convert(source.path(), &one(), &config, &out, &options).unwrap_err();
    assert!(message(&error).contains("`a.weight`") && message(&error).contains("element 2"), "{}", message(&error));

    fs::write(source.path().join("config.json"), "[]").unwrap();
    let error = convert(source.path(), &one(), &config, &out, &options).unwrap_err();
    assert!(matches!(error, LoadError::ConfigSyntax { .. }), "{error}");

    fs::write(source.path().join("config.json"), r#"{"quantization_config": {"quant_method": "gptq"}}"#).unwrap();
    let error = convert(source.path(), &one(), &config, &out, &options).unwrap_err();
    assert!(matches!(error, LoadError::AlreadyQuantized { .. }), "{error}");

    fs::write(source.path().join("config.json"), "{}").unwrap();
    let skipped = config.clone().with_skip_modules(["a"]);
    convert(source.path(), &one(), &skipped, &out, &options).unwrap();
    let error = convert(source.path(), &one(), &skipped, &out, &options).unwrap_err();
    assert!(matches!(error, LoadError::OutputExists { .. }), "{error}");
    let error = convert(source.path(), &one(), &skipped, source.path(), &options).unwrap_err();
    assert!(message(&error).contains("is the checkpoint that is read"), "{error}");

    let quantized = fixtures().join("bitsandbytes/llama-nf4");
    let error =
        convert(&quantized, &model_map(&fixtures().join("checkpoints/llama")), &config, &out, &options).unwrap_err();
    assert!(matches!(error, LoadError::AlreadyQuantized { .. }), "{error}");
    let names: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["out"], "nothing else is left behind");
}
