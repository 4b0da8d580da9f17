//! Weights that are quantised while they are read.

use crate::common::{
    bf16s, checkpoint, counting, f16s, f32s, fixture, load, message, options, plain_map, sharded, slot, stored, values,
};
use automodel_loader::{
    CheckpointFiles, Encoding, LoadError, LoadOptions, LoadPlan, LoadedParameters, QuantizationConfig, execute,
};
use automodel_quant::{Elements, QuantWeight, Scheme, WeightDtype, table16::Blocksize};
use automodel_registry::weights::{ParameterRole, SourcePiece, Tie, ViewOp, WeightMap};
use burn::tensor::{Device, FloatDType};
use half::{bf16, f16};
use safetensors::Dtype;
use std::path::Path;

fn quantizing(config: QuantizationConfig) -> LoadOptions {
    options().with_quantization(config)
}

fn waves(elements: usize) -> Vec<f32> {
    (0..elements).map(|element| ((element * 37 % 1009) as f32 * 0.01).sin() * (1.0 + (element % 7) as f32)).collect()
}

/// What quantising a whole weight gives.
fn whole(shape: &[usize], dtype: FloatDType, values: &[f32], config: &QuantizationConfig) -> QuantWeight {
    let shape = <[usize; 2]>::try_from(shape).unwrap();
    let quantize = |elements: Elements<'_>| QuantWeight::quantize(config.scheme, shape, elements).unwrap();
    match dtype {
        FloatDType::BF16 => quantize(Elements::BF16(&values.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>())),
        FloatDType::F16 => quantize(Elements::F16(&values.iter().map(|v| f16::from_f32(*v)).collect::<Vec<_>>())),
        _ => quantize(Elements::F32(values)),
    }
}

/// Loads with and without quantisation, compares, and returns the plan and how many parameters were quantised.
fn check(directory: &Path, map: &WeightMap, config: &QuantizationConfig, options: &LoadOptions) -> (LoadPlan, usize) {
    let files = CheckpointFiles::open(directory).unwrap();
    let plan = LoadPlan::new(&files, map, &options.clone().with_quantization(config.clone())).unwrap();
    let (mut parameters, report) = execute(&plan, &files, &options.device, &mut |_| {}).unwrap();
    let (dense, _) = load(directory, map, options).unwrap();
    let mut bytes = 0;
    for row in &plan.rows {
        let expected = values(&dense, row.parameter());
        if row.encoding().is_none() {
            assert_eq!(values(&parameters, row.parameter()), expected, "{}", row.parameter());
            continue;
        }
        let weight = parameters.take_quantized(row.parameter()).unwrap();
        let by_itself = whole(row.shape(), row.target(), &expected, config);
        if row.has_joint_scales() {
            // Its scales are quantised with those of others: `three_ways.rs` compares them.
            assert_eq!(weight.codes(), by_itself.codes(), "{}", row.parameter());
        } else {
            assert_eq!(weight, by_itself, "{}", row.parameter());
        }
        assert_eq!(weight.byte_len() as u64, row.bytes(), "{}", row.parameter());
        assert!(parameters.get(row.parameter()).is_none());
        bytes += row.bytes();
    }
    let count = plan.rows.iter().filter(|row| row.encoding().is_some()).count();
    assert_eq!(plan.quantized_bytes(), bytes);
    // With double quantisation, parts of fused tensors that have float32 scales are counted apart.
    assert!(report.encodings.len() <= 1 + usize::from(config.scheme.is_joint()));
    let reported = report.encodings.iter().fold((0, 0), |sum, e| (sum.0 + e.parameters, sum.1 + e.bytes));
    assert_eq!(reported, (count, bytes));
    assert_eq!(report.mapped_bytes + report.copied_bytes, plan.target_bytes);
    (plan, count)
}

fn quantized(parameters: &LoadedParameters) -> Vec<&str> {
    parameters.quantized_paths().collect()
}

#[test]
fn every_layout_of_the_fixtures_is_quantised_as_the_whole_is() {
    // Fused rows, transposed matrices, heads in turns, experts apart, shards, half precision, tied heads.
    let families = [
        ("llama", 14),
        ("llama-bf16", 14),
        ("llama-f16", 14),
        ("llama-sharded", 14),
        ("llama-tied", 14),
        ("phi3", 14),
        ("gpt2", 12),
        ("gpt_neox", 12),
        ("mixtral", 32),
        ("qwen2_moe", 48),
        ("starcoder2", 12),
    ];
    let blocksize = |size| Blocksize::new(size).unwrap();
    for (name, least) in families {
        let (directory, map) = fixture(name);
        for config in [
            QuantizationConfig::nf4(),
            QuantizationConfig::nf4().with_double_quant(true),
            QuantizationConfig::fp4().with_blocksize(blocksize(32)),
            QuantizationConfig::fp4().with_blocksize(blocksize(4096)).with_double_quant(true),
        ] {
            let (plan, count) = check(&directory, &map, &config, &options());
            // Larger blocks reach across the parts of fused projections.
            let all_whole = config.scheme.unit([1, 1]) <= 64;
            assert!(count >= if all_whole { least } else { 1 }, "{name}: {count}");
            for row in plan.rows.iter().filter(|_| all_whole) {
                let projection = matches!(row.role(), ParameterRole::Projection | ParameterRole::ExpertProjection);
                assert_eq!(row.encoding().is_some(), projection, "{name}: {}", row.parameter());
            }
        }
    }
}

#[test]
fn what_is_no_projection_or_skipped_or_tied_stays_dense() {
    let matrix = |name: &str| bf16s(name, &[4, 64], &waves(256));
    let directory = checkpoint(&[
        matrix("h.0.q.weight"),
        matrix("h.0.k.weight"),
        matrix("h.1.q.weight"),
        matrix("router.weight"),
        matrix("tied.weight"),
        matrix("kept.weight"),
        bf16s("norm.weight", &[4], &counting(4)),
        bf16s("cube.weight", &[2, 2, 64], &waves(256)),
        f32s("empty.weight", &[0, 64], &[]),
    ]);
    let piece = |name: &str| vec![SourcePiece::whole(format!("h.{name}.weight"), &[4, 64])];
    let mut map = plain_map(&[
        ("router.weight", &[4, 64]),
        ("tied.weight", &[4, 64]),
        ("follower.weight", &[4, 64]),
        ("kept.weight", &[4, 64]),
        ("norm.weight", &[4]),
        ("cube.weight", &[2, 2, 64]),
        ("empty.weight", &[0, 64]),
    ]);
    map.parameters[0].role = ParameterRole::Router;
    map.parameters[3].keep_float32 = true;
    for (path, name) in [("layers.0.q_proj", "0.q"), ("layers.0.k_proj", "0.k"), ("layers.1.q_proj", "1.q")] {
        map.parameters.push(slot(&format!("model.{path}.weight"), &[4, 64], piece(name)));
    }
    map.ties.push(Tie { parameter: "follower.weight".into(), to: "tied.weight".into(), requested: true });

    let skipping = |modules: &[&str]| {
        let config = QuantizationConfig::nf4().with_skip_modules(modules.iter().copied());
        let (plan, _) = check(directory.path(), &map, &config, &options());
        let paths = plan.rows.iter().filter(|row| row.encoding().is_some()).map(|row| row.parameter().to_owned());
        let short = |path: String| path.trim_start_matches("model.layers.").trim_end_matches("_proj.weight").to_owned();
        (paths.map(short).collect::<Vec<_>>().join(" "), plan.warnings)
    };
    assert_eq!(skipping(&[]).0, "0.q 0.k 1.q");
    assert_eq!(skipping(&["q_proj"]).0, "0.k");
    assert_eq!(skipping(&["model.layers.0"]).0, "1.q");
    assert_eq!(skipping(&["h.1"]).0, "0.q 0.k", "the name in the checkpoint counts too");
    assert_eq!(skipping(&[r"model\.layers\.\d+\.q"]).0, "0.q 0.k 1.q", "q is not a whole part of the path");
    let (none, warnings) = skipping(&["model", "o_proj"]);
    assert_eq!(none, "");
    assert!(warnings.iter().any(|warning| warning.contains("no parameter is quantised to nf4")), "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("\"o_proj\" matches no module")), "{warnings:?}");

    let config = QuantizationConfig::nf4().with_skip_modules(["q_proj("]);
    let error = load(directory.path(), &map, &quantizing(config)).unwrap_err();
    assert!(matches!(error, LoadError::SkipModule { .. }), "{error}");
}

#[test]
fn windows_of_all_kinds_give_the_same_codes() {
    // Larger than the smallest window, so that each is read in several.
    let (rows, columns) = (1024, 1500);
    let list = waves(rows * columns);
    let directory = sharded(&[
        ("a.safetensors", vec![bf16s("w", &[rows, columns], &list)]),
        ("b.safetensors", vec![f16s("half", &[512, columns], &list[..512 * columns])]),
        ("c.safetensors", vec![bf16s("bf", &[512, columns], &list[512 * columns..])]),
    ]);
    let view = |ops| vec![SourcePiece::view("w", &[rows, columns], ops)];
    let mut map = WeightMap { transposed_projections: true, ..plain_map(&[("w", &[rows, columns])]) };
    map.parameters.push(slot("transposed", &[columns, rows], view(vec![ViewOp::Transpose(0, 1)])));
    let middle = vec![ViewOp::Narrow { axis: 0, start: 101, length: 801 }];
    map.parameters.push(slot("rows", &[801, columns], view(middle)));
    let columns_only = vec![ViewOp::Narrow { axis: 1, start: 301, length: 1111 }];
    map.parameters.push(slot("columns", &[rows, 1111], view(columns_only)));
    let heads = vec![ViewOp::SplitAxis { axis: 0, sizes: vec![8, 2, 64] }, ViewOp::Select { axis: 1, index: 1 }];
    map.parameters.push(slot("heads", &[512, columns], view(heads)));
    let pieces = vec![SourcePiece::whole("half", &[512, columns]), SourcePiece::whole("bf", &[512, columns])];
    map.parameters.push(slot("joined", &[rows, columns], pieces));
    // Each is quantised by itself, whatever the others read.
    map.parameters.iter_mut().for_each(|slot| slot.role = ParameterRole::ExpertProjection);
    let mut small = options();
    small.max_bytes_in_flight = 1;
    for options in [options(), small] {
        let config = QuantizationConfig::nf4();
        let (plan, count) = check(directory.path(), &map, &config, &options);
        assert_eq!(count, 6);
        assert!(plan.rows.iter().all(|row| !row.is_mapped()));
        // Halves of different kinds have float32 in common.
        let targets: Vec<_> = plan.rows.iter().map(|row| row.target()).collect();
        assert_eq!(targets[..5], [FloatDType::BF16; 5]);
        assert_eq!(targets[5], FloatDType::F32);
    }
}

#[test]
fn the_dtype_that_the_codes_stand_for_is_that_of_the_file() {
    let list = waves(256);
    let doubles = list.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
    let directory = checkpoint(&[
        bf16s("bf16", &[4, 64], &list),
        f16s("f16", &[4, 64], &list),
        f32s("f32", &[4, 64], &list),
        stored("f64", Dtype::F64, &[4, 64], doubles),
    ]);
    let map = plain_map(&[("bf16", &[4, 64]), ("f16", &[4, 64]), ("f32", &[4, 64]), ("f64", &[4, 64])]);
    let (mut parameters, _) = load(directory.path(), &map, &quantizing(QuantizationConfig::fp4())).unwrap();
    let dtypes = ["bf16", "f16", "f32", "f64"].map(|path| parameters.take_quantized(path).unwrap().dtype());
    assert_eq!(dtypes, [WeightDtype::BFloat16, WeightDtype::Float16, WeightDtype::Float32, WeightDtype::Float32]);
    assert!(parameters.is_empty());
}

#[test]
fn misaligned_files_are_read_through_a_buffer() {
    let list = waves(256);
    let header = r#"{"w":{"dtype":"F32","shape":[4,64],"data_offsets":[0,1024]}} "#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    assert_ne!(bytes.len() % 4, 0);
    bytes.extend(list.iter().flat_map(|value| value.to_le_bytes()));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    check(directory.path(), &plain_map(&[("w", &[4, 64])]), &QuantizationConfig::nf4(), &options());
}

#[test]
fn nan_and_infinity_name_parameter_tensor_and_element() {
    let mut list = waves(512);
    for (place, value) in [(300, f32::NAN), (301, f32::INFINITY)] {
        list[place] = value;
        let directory = checkpoint(&[bf16s("a", &[4, 64], &list[..256]), bf16s("b", &[4, 64], &list[256..])]);
        let pieces = vec![SourcePiece::whole("a", &[4, 64]), SourcePiece::whole("b", &[4, 64])];
        let map = WeightMap { parameters: vec![slot("ab.weight", &[8, 64], pieces)], ..WeightMap::default() };
        let error = load(directory.path(), &map, &quantizing(QuantizationConfig::nf4())).unwrap_err();
        let LoadError::NonFiniteWeight { parameter, tensor, index, value: found } = &error else { panic!("{error}") };
        assert_eq!((parameter.as_str(), tensor.as_str(), *index), ("ab.weight", "b", place));
        assert_eq!(found.is_nan(), value.is_nan());
        assert!(message(&error).contains("skip_modules"), "{error}");
        list[place] = 0.0;
        // Kept dense, it is loaded and reported.
        let config = QuantizationConfig::nf4().with_skip_modules(["ab"]);
        let (parameters, report) = load(directory.path(), &map, &quantizing(config)).unwrap();
        assert_eq!((quantized(&parameters).len(), report.non_finite.len()), (0, 1));
    }
    // Finite in the file, infinite in float32.
    let doubles = (0..64).flat_map(|element| if element == 5 { 1e300f64 } else { 0.5 }.to_le_bytes()).collect();
    let directory = checkpoint(&[stored("w", Dtype::F64, &[1, 64], doubles)]);
    let error = load(directory.path(), &plain_map(&[("w", &[1, 64])]), &quantizing(QuantizationConfig::nf4()));
    assert!(matches!(error, Err(LoadError::NonFiniteWeight { index: 5, .. })), "{error:?}");
}

#[test]
fn the_plan_says_what_is_quantised_and_what_that_takes() {
    let directory = checkpoint(&[bf16s("w", &[256, 64], &waves(256 * 64)), f32s("norm", &[64], &counting(64))]);
    let mut map = plain_map(&[("w", &[256, 64]), ("norm", &[64])]);
    map.parameters[1].role = ParameterRole::Norm;
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let config = QuantizationConfig::nf4().with_double_quant(true);
    let plan = LoadPlan::new(&files, &map, &quantizing(config)).unwrap();
    let row = plan.row("w").unwrap();
    let encoding = Encoding { scheme: Scheme::nf4().with_double_quant(true), prequantized: false };
    assert_eq!((row.encoding(), row.target(), row.is_mapped()), (Some(encoding), FloatDType::BF16, false));
    assert_eq!(row.bytes(), 256 * 32 + 256 + 4);
    assert_eq!((plan.quantized_bytes(), plan.target_bytes), (row.bytes(), row.bytes() + 256));
    assert_eq!(plan.stored_bytes, 256 * 64 * 2 + 256);
    // Two windows of the tensor, which is small, are in memory besides.
    assert_eq!(plan.peak_bytes, plan.target_bytes + 2 * 256 * 64 * 2);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let table = plan.to_string();
    for part in
        ["nf4/64 double", "quantised", "1 parameters quantised to nf4, blocks of 64, double quantisation: 8.3 KiB"]
    {
        assert!(table.contains(part), "{part:?} in\n{table}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    let encoding =
        serde_json::json!({"quant_type": "nf4", "blocksize": 64, "double_quant": true, "prequantized": false});
    assert_eq!(json["rows"][0]["encoding"], encoding);
    assert!(json["rows"][1].get("encoding").is_none());
}

#[test]
fn progress_and_files_that_change_are_as_for_dense_parameters() {
    let directory = checkpoint(&[bf16s("w", &[64, 64], &waves(4096))]);
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let options = quantizing(QuantizationConfig::nf4());
    let plan = LoadPlan::new(&files, &plain_map(&[("w", &[64, 64])]), &options).unwrap();
    let mut done = Vec::new();
    execute(&plan, &files, &Device::flex(), &mut |progress| done.push(progress.bytes_done)).unwrap();
    assert_eq!(done, [plan.target_bytes]);
    let path = directory.path().join("model.safetensors");
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let error = execute(&plan, &files, &Device::flex(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::ShardChanged { .. }), "{error}");
}
