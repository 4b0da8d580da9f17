//! Checkpoints whose weights are in bitsandbytes' 4-bit format.

use crate::common::{
    Stored, bf16s, checkpoint, counting, f32s, family_map, load, message, options, plain_map, sharded, slot, stored,
};
use automodel_loader::{CheckpointFiles, DtypePolicy, LoadError, LoadPlan, QuantizationConfig};
use automodel_quant::{
    Elements,
    files::StoredTensor,
    table16::{
        Absmax, Blocksize, QuantType, Quantized4bit,
        format::{read_parameter, write_parameter},
    },
};
use automodel_registry::weights::{ParameterRole, SourcePiece, Tie, ViewOp, WeightMap};
use automodel_test_support::fixtures::bitsandbytes;
use burn::tensor::FloatDType;
use half::bf16;
use safetensors::{Dtype, SafeTensors};
use std::{fs, path::Path};

fn weight(shape: [usize; 2], blocksize: usize) -> Quantized4bit {
    let wave = |element: usize| (element as f32 * 0.7).sin() * (1.0 + (element / 97 % 11) as f32);
    let values: Vec<bf16> = (0..shape[0] * shape[1]).map(|element| bf16::from_f32(wave(element))).collect();
    let blocksize = Blocksize::new(blocksize).unwrap();
    Quantized4bit::quantize(QuantType::Nf4, blocksize, shape, Elements::BF16(&values)).unwrap()
}

/// The tensors of a parameter in a file.
fn tensors(name: &str, weight: &Quantized4bit) -> Vec<Stored> {
    let tensor =
        |(name, tensor): (String, StoredTensor)| stored(&name, tensor.dtype, &tensor.shape, tensor.data.to_vec());
    write_parameter(name, weight).into_iter().map(tensor).collect()
}

fn rows(name: &str, shape: [usize; 2], start: usize, length: usize) -> Vec<SourcePiece> {
    vec![SourcePiece::view(name, &shape, vec![ViewOp::Narrow { axis: 0, start, length }])]
}

/// Everything that is wrong with a checkpoint, as text.
fn refusal(directory: &Path, map: &WeightMap) -> String {
    let error = load(directory, map, &options()).unwrap_err();
    assert!(matches!(error, LoadError::Mismatch { .. } | LoadError::Quantization { .. }), "{error}");
    message(&error)
}

#[test]
fn parameters_stay_in_the_file_as_they_are() {
    let plain = weight([96, 100], 64);
    let nested = weight([64, 512], 32).nested();
    let mut all = tensors("plain.weight", &plain);
    all.extend(tensors("nested.weight", &nested));
    all.push(bf16s("norm.weight", &[4], &counting(4)));
    let directory = checkpoint(&all);
    let mut map = plain_map(&[("plain.weight", &[96, 100]), ("nested.weight", &[64, 512]), ("norm.weight", &[4])]);
    map.parameters[2].role = ParameterRole::Norm;

    let files = CheckpointFiles::open(directory.path()).unwrap();
    let plan = LoadPlan::new(&files, &map, &options()).unwrap();
    assert!(plan.unexpected.is_empty() && plan.ignored.is_empty(), "{plan}");
    let row = plan.row("nested.weight").unwrap();
    assert_eq!((row.bytes(), row.target(), row.is_mapped()), (nested.byte_len() as u64, FloatDType::BF16, true));
    assert_eq!(row.companions().len(), 5);
    assert_eq!(plan.mapped_bytes, 96 * 50 + 64 * 256);
    assert_eq!(plan.stored_bytes, files.stored_bytes());
    assert!(plan.to_string().contains("1 parameters stored in nf4, blocks of 32, double quantisation"), "{plan}");

    let (mut parameters, report) = load(directory.path(), &map, &options()).unwrap();
    assert_eq!((report.mapped_bytes, report.unexpected.len()), (plan.mapped_bytes, 0));
    assert_eq!(report.mapped_bytes + report.copied_bytes, plan.target_bytes);
    assert_eq!(report.encodings.len(), 2);
    let loaded = parameters.take_quantized("plain.weight").unwrap().table16().unwrap();
    assert_eq!(loaded, plain);
    #[cfg(target_os = "linux")]
    assert!(crate::load::is_mapped(loaded.packed().as_ptr() as usize, "model.safetensors"));
    assert_eq!(parameters.take_quantized("nested.weight").unwrap().table16().unwrap(), nested);
    assert_eq!(parameters.len(), 1);

    let mut copying = options();
    copying.zero_copy = false;
    let (mut parameters, report) = load(directory.path(), &map, &copying).unwrap();
    assert_eq!((report.mapped_bytes, report.copied_bytes), (0, plan.target_bytes));
    let loaded = parameters.take_quantized("plain.weight").unwrap().table16().unwrap();
    assert_eq!(loaded, plain);
    #[cfg(target_os = "linux")]
    assert!(!crate::load::is_mapped(loaded.packed().as_ptr() as usize, "model.safetensors"));
}

#[test]
fn checkpoints_that_transformers_wrote_load_without_decoding() {
    for (name, encoding) in [
        ("llama-nf4", "nf4, blocks of 64"),
        ("llama-nf4-double", "nf4, blocks of 64, double quantisation"),
        ("llama-fp4", "fp4, blocks of 64"),
        ("gpt2-nf4", "nf4, blocks of 64"),
        ("llama-nf4-bf16", "nf4, blocks of 64"),
        ("llama-nf4-double-f32", "nf4, blocks of 64, double quantisation"),
        ("llama-fp4-f16", "fp4, blocks of 64"),
    ] {
        let directory = bitsandbytes(name);
        let (mut parameters, report) = load(&directory, &family_map(&directory), &options()).unwrap();
        assert_eq!(report.encodings.len(), 1, "{name}");
        assert_eq!(report.encodings[0].encoding.to_string(), encoding);
        assert!(report.unexpected.is_empty() && report.missing.is_empty(), "{name}: {report:?}");
        let file = fs::read(directory.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        let stored = |name: &str| {
            let find = |name: &str| {
                let tensor = file.tensor(name).ok()?;
                let data = bytes::Bytes::copy_from_slice(tensor.data());
                Some(StoredTensor { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data })
            };
            read_parameter(name, find).unwrap()
        };
        let (whole, parts) = match name {
            // Three projections in one matrix, which checkpoints of GPT-2 that are not quantised have transposed.
            "gpt2-nf4" => ("transformer.h.1.attn.c_attn.weight", vec!["q_proj", "k_proj", "v_proj"]),
            _ => ("model.layers.1.self_attn.q_proj.weight", vec!["q_proj"]),
        };
        let parts = parts.iter().map(|part| format!("model.layers.1.self_attn.{part}.weight"));
        let parts: Vec<f32> = parts
            .flat_map(|path| parameters.take_quantized(&path).unwrap().table16().unwrap().dequantize::<f32>())
            .collect();
        assert!(parts == stored(whole).dequantize::<f32>(), "{name}");
    }
}

#[test]
fn rows_of_a_fused_tensor_are_cut_out_at_blocks() {
    // 16 rows are 2 blocks of 4096 / 64 scales each: the second part begins with a nested block, the third does not.
    let shape = [40, 1024];
    let plain = weight(shape, 64);
    let path = |part: usize| format!("part{part}.weight");
    let starts = [(0, 16), (16, 20), (36, 4)];
    for whole in [plain.clone(), plain.nested()] {
        let directory = checkpoint(&tensors("qkv.weight", &whole));
        let mut map = WeightMap::default();
        for (part, (start, length)) in starts.into_iter().enumerate() {
            map.parameters.push(slot(&path(part), &[length, 1024], rows("qkv.weight", shape, start, length)));
        }
        let files = CheckpointFiles::open(directory.path()).unwrap();
        let plan = LoadPlan::new(&files, &map, &options()).unwrap();
        let (mut parameters, report) = load(directory.path(), &map, &options()).unwrap();
        assert_eq!((report.mapped_bytes, report.unexpected.len()), (40 * 512, 0));
        let decoded: Vec<f32> = whole.dequantize();
        for (part, (start, length)) in starts.into_iter().enumerate() {
            let loaded = parameters.take_quantized(&path(part)).unwrap().table16().unwrap();
            assert!(loaded.dequantize::<f32>() == decoded[start * 1024..(start + length) * 1024], "{part}");
            assert_eq!(loaded.byte_len() as u64, plan.row(&path(part)).unwrap().bytes());
            let keeps = matches!(whole.absmax(), Absmax::Nested(_)) && part < 2;
            assert_eq!(matches!(loaded.absmax(), Absmax::Nested(_)), keeps, "{part}");
        }
    }
}

#[test]
fn heads_in_turns_are_joined_block_by_block() {
    let whole = weight([24, 64], 64).nested();
    let directory = checkpoint(&tensors("qkv.weight", &whole));
    let heads = vec![ViewOp::SplitAxis { axis: 0, sizes: vec![4, 3, 2] }, ViewOp::Select { axis: 1, index: 1 }];
    let piece = SourcePiece::view("qkv.weight", &[24, 64], heads);
    let map = WeightMap { parameters: vec![slot("k.weight", &[8, 64], vec![piece])], ..WeightMap::default() };
    let (mut parameters, report) = load(directory.path(), &map, &options()).unwrap();
    let decoded: Vec<f32> = whole.dequantize();
    let expected: Vec<f32> = decoded.chunks(2 * 64).skip(1).step_by(3).flatten().copied().collect();
    assert!(parameters.take_quantized("k.weight").unwrap().table16().unwrap().dequantize::<f32>() == expected);
    assert_eq!(report.mapped_bytes, 0);
}

#[test]
fn matrices_that_are_otherwise_stored_transposed_are_not_when_quantised() {
    let whole = weight([96, 64], 64);
    let directory = checkpoint(&tensors("c_attn.weight", &whole));
    let ops = vec![ViewOp::Transpose(0, 1), ViewOp::Narrow { axis: 0, start: 32, length: 32 }];
    let piece = SourcePiece::view("c_attn.weight", &[64, 96], ops);
    let parameters = vec![slot("k.weight", &[32, 64], vec![piece])];
    let map = WeightMap { parameters, transposed_projections: true, ..WeightMap::default() };
    let (mut parameters, _) = load(directory.path(), &map, &options()).unwrap();
    let decoded: Vec<f32> = whole.dequantize();
    assert!(
        parameters.take_quantized("k.weight").unwrap().table16().unwrap().dequantize::<f32>()
            == decoded[32 * 64..64 * 64]
    );
}

#[test]
fn views_that_would_need_decoding_are_refused() {
    let directory = checkpoint(&tensors("w.weight", &weight([40, 48], 64)));
    let view =
        |path: &str, shape: &[usize], ops| slot(path, shape, vec![SourcePiece::view("w.weight", &[40, 48], ops)]);
    let columns = vec![ViewOp::Narrow { axis: 1, start: 0, length: 24 }];
    let halves = vec![ViewOp::SplitAxis { axis: 1, sizes: vec![2, 24] }, ViewOp::Transpose(0, 1)];
    let first = SourcePiece::whole("w.weight", &[40, 48]);
    for (slot, part) in [
        (slot("rows", &[8, 48], rows("w.weight", [40, 48], 1, 8)), "within a block of 64"),
        (view("columns", &[40, 24], columns), "within a block of 64"),
        (view("halves", &[40, 48], halves), "within a block of 64"),
        (slot("joined", &[80, 48], vec![first.clone(), first]), "quantised tensors cannot be joined"),
    ] {
        let text = refusal(directory.path(), &WeightMap { parameters: vec![slot], ..WeightMap::default() });
        assert!(text.contains(part) && text.contains("`w.weight`"), "{text}");
    }
    // The last rows may end where the last block is cut short.
    let tail = slot("tail", &[4, 48], rows("w.weight", [40, 48], 36, 4));
    load(directory.path(), &WeightMap { parameters: vec![tail], ..WeightMap::default() }, &options()).unwrap();
}

#[test]
fn states_that_are_not_consistent_are_refused_by_name() {
    type Change = fn(&mut Vec<Stored>);
    fn tensor<'t>(all: &'t mut [Stored], suffix: &str) -> &'t mut Stored {
        all.iter_mut().find(|tensor| tensor.name == format!("w.weight{suffix}")).unwrap()
    }
    fn state(all: &mut [Stored], json: &str) {
        let state = tensor(all, ".quant_state.bitsandbytes__nf4");
        *state = stored(&state.name, Dtype::U8, &[json.len()], json.into());
    }
    let cases: [(Change, &[&str]); 12] = [
        (|all| all.retain(|tensor| !tensor.name.ends_with(".absmax")), &["`w.weight.absmax` is missing"]),
        (|all| all.retain(|tensor| !tensor.name.ends_with(".quant_map")), &["`w.weight.quant_map` is missing"]),
        (
            |all| {
                let absmax = tensor(all, ".absmax");
                *absmax = stored(&absmax.name, Dtype::BF16, &[4, 16], vec![0; 128]);
            },
            &["w.weight.absmax", "AVX-512"],
        ),
        (
            |all| {
                let absmax = tensor(all, ".absmax");
                *absmax = f32s(&absmax.name, &[63], &[1.0; 63]);
            },
            &["w.weight.absmax", "[63]", "[64]"],
        ),
        (|all| tensor(all, ".absmax").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()), &["absmax[0] is NaN"]),
        (|all| tensor(all, ".quant_map").bytes[8..12].copy_from_slice(&0.3f32.to_le_bytes()), &["quant_map", "0.3"]),
        (|all| state(all, "{"), &["bitsandbytes__nf4", "EOF"]),
        (|all| state(all, &" ".repeat(70_000)), &["bitsandbytes__nf4", "too many"]),
        (
            |all| state(all, r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [32, 128]}"#),
            &["`w.weight` is [32, 128] and should be [64, 64]"],
        ),
        (
            |all| state(all, r#"{"quant_type": "nf4", "blocksize": 65, "dtype": "float32", "shape": [64, 64]}"#),
            &["block size 65"],
        ),
        (
            |all| {
                let json = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [64, 64]}"#;
                all.push(stored("w.weight.quant_state.bitsandbytes__fp4", Dtype::U8, &[json.len()], json.into()));
            },
            &["a state for nf4 and one for fp4"],
        ),
        (|all| all.push(f32s("w.weight.nested_absmax", &[1], &[1.0])), &["w.weight.nested_absmax"]),
    ];
    for (change, parts) in cases {
        let mut all = tensors("w.weight", &weight([64, 64], 64));
        change(&mut all);
        let text = refusal(checkpoint(&all).path(), &plain_map(&[("w.weight", &[64, 64])]));
        for part in parts {
            assert!(text.contains(part), "{text:?} should say {part:?}");
        }
    }
}

#[test]
fn parts_of_another_dtype_are_refused_by_name() {
    const DTYPES: [(Dtype, usize); 11] = [
        (Dtype::F64, 8),
        (Dtype::F32, 4),
        (Dtype::F16, 2),
        (Dtype::BF16, 2),
        (Dtype::I64, 8),
        (Dtype::U8, 1),
        (Dtype::I8, 1),
        (Dtype::BOOL, 1),
        (Dtype::F8_E4M3, 1),
        (Dtype::I32, 4),
        (Dtype::U16, 2),
    ];
    let nested = weight([64, 64], 64).nested();
    for suffix in ["", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".quant_state.bitsandbytes__nf4"]
    {
        for (dtype, size) in DTYPES {
            let mut all = tensors("w.weight", &nested);
            let name = format!("w.weight{suffix}");
            let part = all.iter_mut().find(|tensor| tensor.name == name).unwrap();
            if part.dtype == dtype || (suffix.is_empty() && (dtype, size) == (Dtype::I8, 1)) {
                continue;
            }
            let elements: usize = part.shape.iter().product();
            *part = stored(&name, dtype, &part.shape, vec![1; elements * size]);
            let text = refusal(checkpoint(&all).path(), &plain_map(&[("w.weight", &[64, 64])]));
            assert!(text.contains(&name) && !text.contains("plan"), "{name} as {dtype:?}: {text}");
            let spoilt = suffix == ".absmax" && dtype == Dtype::BF16;
            assert_eq!(text.contains("AVX-512"), spoilt, "{name} as {dtype:?}: {text}");
        }
    }
}

#[test]
fn projections_that_are_turned_for_their_module_have_no_4_bit_form() {
    let turned = |name: &str| {
        let piece = SourcePiece::view(name, &[64, 64], vec![ViewOp::Transpose(0, 1)]);
        WeightMap { parameters: vec![slot("burn.weight", &[64, 64], vec![piece])], ..WeightMap::default() }
    };
    let stored_in_4bit = checkpoint(&tensors("w.weight", &weight([64, 64], 64)));
    let text = refusal(stored_in_4bit.path(), &turned("w.weight"));
    assert!(text.contains("`w.weight` transposed") && text.contains("[out_features, in_features]"), "{text}");
    let dense = checkpoint(&[f32s("w.weight", &[64, 64], &counting(4096))]);
    let quantizing = options().with_quantization(QuantizationConfig::nf4());
    let text = message(&load(dense.path(), &turned("w.weight"), &quantizing).unwrap_err());
    assert!(text.contains("`burn.weight`") && text.contains("`w.weight` transposed"), "{text}");
    // Dense it is what was asked for, and so is what checkpoints have transposed.
    load(dense.path(), &turned("w.weight"), &options()).unwrap();
    let skipping = options().with_quantization(QuantizationConfig::nf4().with_skip_modules(["burn"]));
    load(dense.path(), &turned("w.weight"), &skipping).unwrap();
    for directory in [&stored_in_4bit, &dense] {
        let of_gpt2 = WeightMap { transposed_projections: true, ..turned("w.weight") };
        let (mut parameters, _) = load(directory.path(), &of_gpt2, &quantizing).unwrap();
        assert!(parameters.take_quantized("burn.weight").is_some());
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut all = tensors("a.weight", &weight([8, 64], 64));
    all.extend(tensors("b.weight", &weight([8, 64], 64)));
    all.retain(|tensor| !tensor.name.ends_with(".absmax"));
    let map = plain_map(&[("a.weight", &[8, 64]), ("b.weight", &[8, 64]), ("c.weight", &[1])]);
    let text = refusal(checkpoint(&all).path(), &map);
    for part in ["2 quantised parameter(s) that cannot be read", "`a.weight.absmax`", "`b.weight.absmax`", "`c.weight`"]
    {
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }
}

#[test]
fn companions_may_be_in_other_shards_and_names_have_a_prefix() {
    let whole = weight([16, 64], 64);
    let (first, rest): (Vec<_>, Vec<_>) =
        tensors("language_model.model.q.weight", &whole).into_iter().partition(|tensor| tensor.dtype == Dtype::U8);
    let directory = sharded(&[("a.safetensors", first), ("b.safetensors", rest)]);
    let mut map = plain_map(&[("model.q.weight", &[16, 64])]);
    map.prefixes.push(("model.".into(), "language_model.model.".into()));
    let (mut parameters, report) = load(directory.path(), &map, &options()).unwrap();
    assert_eq!(parameters.take_quantized("model.q.weight").unwrap().table16().unwrap(), whole);
    assert!(report.unexpected.is_empty(), "{report:?}");
}

#[test]
fn what_the_checkpoint_left_dense_stays_dense() {
    let mut all = tensors("q.weight", &weight([16, 64], 64));
    all.push(bf16s("k.weight", &[16, 64], &counting(1024)));
    let directory = checkpoint(&all);
    let map = plain_map(&[("q.weight", &[16, 64]), ("k.weight", &[16, 64])]);
    let asking = options().with_quantization(QuantizationConfig::fp4()).with_dtype(DtypePolicy::Cast(FloatDType::F32));
    let (mut parameters, report) = load(directory.path(), &map, &asking).unwrap();
    assert_eq!(parameters.take_quantized("q.weight").unwrap().table16().unwrap().quant_type(), QuantType::Nf4);
    assert_eq!(parameters.take("k.weight").unwrap().dtype, FloatDType::F32);
    assert!(report.warnings.iter().any(|warning| warning.contains("quantised already")), "{:?}", report.warnings);
}

#[test]
fn ties_hold_for_quantised_parameters() {
    let whole = weight([16, 64], 64);
    let directory = checkpoint(&tensors("embed.weight", &whole));
    let mut map = plain_map(&[("embed.weight", &[16, 64]), ("head.weight", &[16, 64])]);
    map.ties.push(Tie { parameter: "head.weight".into(), to: "embed.weight".into(), requested: true });
    let (mut parameters, _) = load(directory.path(), &map, &options()).unwrap();
    assert_eq!(parameters.tied().len(), 1);
    assert_eq!(parameters.take_quantized("head.weight"), parameters.take_quantized("embed.weight"));
}
