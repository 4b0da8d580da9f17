//! 4-bit parameters written as bitsandbytes has them.

use crate::{
    common::{f32s, slot},
    convert::{parameter, tensors},
};
use automodel_loader::{CheckpointFiles, CheckpointWriter, LoadError, SaveFiles, SaveOptions, SaveReport};
use automodel_quant::{
    Elements, QuantWeight, Scheme, WeightDtype,
    table16::{Absmax, Blocksize, NestedAbsmax, QuantType, Quantized4bit},
};
use automodel_registry::weights::{ParameterRole, SourcePiece, ViewOp, WeightMap};
use burn::tensor::TensorData;
use serde_json::Value;
use std::path::Path;

fn waves(elements: usize) -> Vec<f32> {
    (0..elements).map(|at| (at as f32 * 0.37).sin() * (1.0 + at as f32 / 100.0)).collect()
}

fn quantized(shape: [usize; 2], values: &[f32]) -> Quantized4bit {
    Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), shape, Elements::F32(values)).unwrap()
}

/// Rows of a weight, quantised on their own.
fn rows(values: &[f32], columns: usize, rows: impl IntoIterator<Item = usize>) -> Quantized4bit {
    let part: Vec<f32> = rows.into_iter().flat_map(|row| values[row * columns..(row + 1) * columns].to_vec()).collect();
    quantized([part.len() / columns, columns], &part)
}

enum Given {
    Dense(TensorData),
    Quantized(Quantized4bit),
}

fn save(directory: &Path, map: &WeightMap, flag: bool, given: Vec<(&str, Given)>) -> Result<SaveReport, LoadError> {
    let mut options = SaveOptions::default();
    options.quantized = flag.then(Scheme::nf4);
    let mut writer = CheckpointWriter::new(directory, map, &options)?;
    for (path, value) in given {
        match value {
            Given::Dense(values) => writer.write(path, &values)?,
            Given::Quantized(weight) => writer.write_quantized(path, &QuantWeight::from(weight))?,
        }
    }
    writer.finish(&SaveFiles::default())
}

fn map(slots: Vec<(&str, [usize; 2], SourcePiece)>) -> WeightMap {
    let parameters = slots.into_iter().map(|(path, shape, piece)| slot(path, &shape, vec![piece])).collect();
    WeightMap { parameters, transposed_projections: true, ..WeightMap::default() }
}

#[test]
fn whole_tensors_beside_dense_ones() {
    let mut map = map(vec![
        ("a.weight", [3, 5], SourcePiece::whole("a.weight", &[3, 5])),
        ("b.weight", [64, 64], SourcePiece::whole("b.weight", &[64, 64])),
        // Stored the other way round while dense: in 4 bits it is written as it is.
        ("c.weight", [6, 32], SourcePiece::view("conv.weight", &[32, 6], vec![ViewOp::Transpose(0, 1)])),
    ]);
    map.parameters.push(slot("norm.weight", &[7], vec![SourcePiece::whole("norm.weight", &[7])]));
    let dense = || Given::Dense(TensorData::new(waves(7), [7]));
    let (a, b, c) =
        (quantized([3, 5], &waves(15)), quantized([64, 64], &waves(4096)).nested(), quantized([6, 32], &waves(192)));
    for flag in [true, false] {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let given = [("a.weight", &a), ("b.weight", &b), ("c.weight", &c)];
        let mut given: Vec<_> = given.map(|(path, weight)| (path, Given::Quantized(weight.clone()))).into();
        given.insert(0, ("norm.weight", dense()));
        let report = save(&out, &map, flag, given).unwrap();
        assert_eq!(report.shards.len(), if flag { 1 } else { 2 });
        let saved = tensors(&out);
        assert_eq!(
            [("a.weight", &a), ("b.weight", &b), ("conv.weight", &c)].map(|(name, weight)| {
                assert_eq!(parameter(&saved, name), *weight, "{name}");
                saved.keys().filter(|tensor| tensor.starts_with(name)).count()
            }),
            [4, 6, 4]
        );
        assert_eq!(saved["norm.weight"].2, f32s("", &[7], &waves(7)).bytes);
        assert_eq!(report.tensors, 15);
        let files = CheckpointFiles::open(&out).unwrap();
        assert!(files.tensors().values().all(|info| info.dtype.bits() == 8 || info.range.start.is_multiple_of(4)));
    }
}

/// Queries, keys and values in one tensor of 96 columns.
fn fused(ops: impl Fn(usize) -> Vec<ViewOp>, shape: [usize; 2], parts: [usize; 3]) -> WeightMap {
    let names = ["q.weight", "k.weight", "v.weight"];
    let slots = (0..3).map(|part| (names[part], [parts[part], 96], SourcePiece::view("qkv.weight", &shape, ops(part))));
    map(slots.collect())
}

#[test]
fn parts_are_joined_where_blocks_allow() {
    let values = waves(24 * 96);
    let whole = quantized([24, 96], &values);
    let narrow = |part: usize| ViewOp::Narrow { axis: 0, start: part * 8, length: 8 };
    let heads = vec![4, 3, 2];
    let split =
        |part| vec![ViewOp::SplitAxis { axis: 0, sizes: heads.clone() }, ViewOp::Select { axis: 1, index: part }];
    let consecutive: Vec<Vec<usize>> = (0..3).map(|part| (part * 8..part * 8 + 8).collect()).collect();
    let by_head: Vec<Vec<usize>> =
        (0..3).map(|part| (0..4).flat_map(|head| [head * 6 + part * 2, head * 6 + part * 2 + 1]).collect()).collect();
    let cases = [
        (fused(|part| vec![narrow(part)], [24, 96], [8; 3]), &consecutive),
        (fused(|part| vec![ViewOp::Transpose(0, 1), narrow(part)], [96, 24], [8; 3]), &consecutive),
        (fused(split, [24, 96], [8; 3]), &by_head),
    ];
    for (map, parts) in cases {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let part = |number: usize| Given::Quantized(rows(&values, 96, parts[number].iter().copied()));
        let given = vec![("v.weight", part(2)), ("q.weight", part(0)), ("k.weight", part(1))];
        save(&out, &map, true, given).unwrap();
        assert_eq!(parameter(&tensors(&out), "qkv.weight"), whole);
    }
}

#[test]
fn scales_in_8_bits_are_joined_or_become_float32() {
    // 512 scales each, or 3 * 96 / 64 of a block for two rows.
    for (columns, aligned) in [(64 * 512, true), (96 * 4, false)] {
        let values = waves(3 * columns);
        let whole = quantized([3, columns], &values).nested();
        let Absmax::Nested(scales) = whole.absmax() else { panic!("plain scales") };
        let part = |number: usize| {
            let part = rows(&values, columns, [number]);
            let nested = NestedAbsmax::quantize_around(&part.scales(), scales.offset);
            let (quant_type, blocksize) = (part.quant_type(), part.blocksize());
            Quantized4bit::from_parts(
                quant_type,
                blocksize,
                part.shape(),
                part.dtype(),
                part.packed().clone(),
                Absmax::Nested(nested),
            )
            .unwrap()
        };
        let names = ["a.weight", "b.weight", "c.weight"];
        let piece = |number| {
            let rows = vec![ViewOp::Narrow { axis: 0, start: number, length: 1 }];
            SourcePiece::view("all.weight", &[3, columns], rows)
        };
        let map = map((0..3).map(|number| (names[number], [1, columns], piece(number))).collect());
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let given = (0..3).map(|number| (names[number], Given::Quantized(part(number)))).collect();
        let report = save(&out, &map, true, given).unwrap();
        let saved = parameter(&tensors(&out), "all.weight");
        assert_eq!((saved == whole, report.warnings.len()), (aligned, usize::from(!aligned)));
        let expected: Vec<f32> = (0..3).flat_map(|number| part(number).scales()).collect();
        assert_eq!(saved.scales(), expected);
        assert_eq!(saved.packed(), whole.packed());
    }
}

#[test]
fn parts_that_cannot_be_joined() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let values = waves(24 * 96);
    let starts = [0, 7, 16];
    let map = fused(
        |part| vec![ViewOp::Narrow { axis: 0, start: starts[part], length: [7, 9, 8][part] }],
        [24, 96],
        [7, 9, 8],
    );
    let part = |range: std::ops::Range<usize>| Given::Quantized(rows(&values, 96, range));
    let error = save(&out, &map, true, vec![("q.weight", part(0..7))]).unwrap_err();
    assert!(error.to_string().contains("no whole blocks of 64"), "{error}");

    let map = fused(|part| vec![ViewOp::Narrow { axis: 0, start: part * 8, length: 8 }], [24, 96], [8; 3]);
    let dense = || Given::Dense(TensorData::new(values[8 * 96..16 * 96].to_vec(), [8, 96]));
    for given in [
        vec![("q.weight", part(0..8)), ("k.weight", dense())],
        vec![("k.weight", dense()), ("q.weight", part(0..8))],
        vec![
            ("q.weight", part(0..8)),
            ("k.weight", {
                let values = &values[8 * 96..16 * 96];
                let other =
                    Quantized4bit::quantize(QuantType::Fp4, Blocksize::default(), [8, 96], Elements::F32(values));
                Given::Quantized(other.unwrap())
            }),
        ],
    ] {
        let error = save(&out, &map, true, given).unwrap_err();
        assert!(matches!(error, LoadError::QuantizedPart { .. }), "{error}");
    }
    let error = save(&out, &map, true, vec![("q.weight", part(0..8)), ("v.weight", part(16..24))]).unwrap_err();
    assert!(matches!(error, LoadError::UncoveredTensor { covered: 1536, elements: 2304, .. }), "{error:?}");
    let error = save(&out, &map, true, vec![("q.weight", part(0..9))]).unwrap_err();
    assert!(matches!(error, LoadError::ParameterShape { .. }), "{error}");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "nothing is left behind");
}

/// A layer's projections, a router and the head.
fn layer() -> WeightMap {
    let mut map = map(["up_proj.weight", "gate.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"]
        .map(|path| (path, [2, 32], SourcePiece::whole(path, &[2, 32])))
        .into());
    let roles =
        [ParameterRole::Projection, ParameterRole::Router, ParameterRole::Projection, ParameterRole::OutputHead];
    map.parameters.iter_mut().zip(roles).for_each(|(slot, role)| slot.role = role);
    map
}

#[test]
fn the_config_names_what_is_dense() {
    let listed = |in_4_bits: &[&str]| -> Option<Value> {
        let (parent, map) = (tempfile::tempdir().unwrap(), layer());
        let mut writer = CheckpointWriter::new(&parent.path().join("out"), &map, &SaveOptions::default()).unwrap();
        for slot in &map.parameters {
            match in_4_bits.contains(&slot.path.as_str()) {
                true => writer.write_quantized(&slot.path, &quantized([2, 32], &waves(64)).nested().into()).unwrap(),
                false => writer.write(&slot.path, &TensorData::new(waves(64), [2, 32])).unwrap(),
            }
        }
        let config = writer.quantization_config(WeightDtype::Float16).unwrap()?;
        assert_eq!(config["bnb_4bit_compute_dtype"], "float16");
        assert_eq!(config["bnb_4bit_use_double_quant"], true);
        Some(config["llm_int8_skip_modules"].clone())
    };
    let (up, gate, down) = ("up_proj.weight", "gate.weight", "model.layers.0.mlp.down_proj.weight");
    assert_eq!(listed(&[]), None);
    assert_eq!(listed(&[up, gate, down]), Some(Value::Null));
    assert_eq!(listed(&[up]), Some(serde_json::json!(["lm_head", "gate", "mlp.down_proj"])));
    // A list replaces the rule that heads are dense.
    assert_eq!(listed(&[up, gate, down, "lm_head.weight"]), Some(serde_json::json!([])));
}

#[test]
fn experts_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let mut map = layer();
    map.parameters[0].role = ParameterRole::ExpertProjection;
    let given = vec![("up_proj.weight", Given::Quantized(quantized([2, 32], &waves(64))))];
    let error = save(&parent.path().join("out"), &map, true, given).unwrap_err();
    assert!(matches!(&error, LoadError::QuantizedPart { parameter, .. } if parameter == "up_proj.weight"), "{error:?}");
    assert!(error.to_string().contains("three axes"), "{error}");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}
