//! Tensors of the bitsandbytes format: round trips, and every way to be wrong.

use std::collections::BTreeMap;

use automodel_quant::{
    Elements, QuantError,
    table16::{
        Absmax, Blocksize, NestedAbsmax, QuantType, Quantized4bit,
        format::{self, Companion, QuantState, StoredTensor},
    },
};
use bytes::Bytes;
use safetensors::{Dtype, SafeTensors};

type Tensors = BTreeMap<String, StoredTensor>;

const P: &str = "model.q_proj.weight";

fn quantized(nested: bool) -> Quantized4bit {
    let values: Vec<f32> = (0..40 * 30).map(|i| (i as f32 * 0.7).sin()).collect();
    let weight =
        Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [40, 30], Elements::F32(&values)).unwrap();
    if nested { weight.nested() } else { weight }
}

fn written(nested: bool) -> Tensors {
    format::write_parameter(P, &quantized(nested)).into_iter().collect()
}

fn read(tensors: &Tensors) -> Result<Quantized4bit, QuantError> {
    format::read_parameter(P, |name| tensors.get(name).cloned())
}

#[test]
fn what_is_written_is_read() {
    for nested in [false, true] {
        let tensors = written(nested);
        assert_eq!(read(&tensors).unwrap(), quantized(nested));
        let state = QuantState::of(&quantized(nested));
        for header in state.tensors(P) {
            assert_eq!((header.dtype, &header.shape), (tensors[&header.name].dtype, &tensors[&header.name].shape));
        }
        assert_eq!(state.tensors(P).len(), tensors.len());
        assert!(
            tensors.keys().all(|name| name == P || Companion::parse(name).is_some_and(|(parameter, _)| parameter == P))
        );
    }
}

#[test]
fn what_bitsandbytes_writes_is_read_and_written_alike() {
    let file = SafeTensors::deserialize(include_bytes!("golden/quantized.safetensors")).unwrap();
    for (case, quant_type, nested) in [
        ("random.nf4.bfloat16.64", QuantType::Nf4, false),
        ("random.fp4.float16.128", QuantType::Fp4, false),
        ("odd.nf4.float32", QuantType::Nf4, false),
        ("nested.fp4.bfloat16", QuantType::Fp4, true),
        ("nested.nf4.float32", QuantType::Nf4, true),
    ] {
        let find = |name: &str| {
            let part = match Companion::parse(name) {
                None => "packed",
                Some((_, Companion::State(found))) if found == quant_type => "state",
                Some((_, Companion::QuantMap)) => {
                    let data: Vec<u8> = quant_type.code().iter().flat_map(|value| value.to_le_bytes()).collect();
                    return Some(StoredTensor { dtype: Dtype::F32, shape: vec![16], data: data.into() });
                }
                Some((_, Companion::State(_))) => return None,
                Some((_, companion)) => &companion.suffix()[1..],
            };
            let view = file.tensor(&format!("{case}.{part}")).ok()?;
            let data = Bytes::copy_from_slice(view.data());
            Some(StoredTensor { dtype: view.dtype(), shape: view.shape().to_vec(), data })
        };
        let weight = format::read_parameter(P, find).unwrap();
        assert_eq!(matches!(weight.absmax(), Absmax::Nested(_)), nested);
        assert_eq!(weight.shape(), file.tensor(&format!("{case}.input")).unwrap().shape());
        for (name, tensor) in format::write_parameter(P, &weight) {
            assert_eq!(Some(tensor), find(&name), "{case} {name}");
        }
    }
}

fn message(tensors: &Tensors) -> String {
    read(tensors).unwrap_err().to_string()
}

fn state(json: &str) -> StoredTensor {
    StoredTensor { dtype: Dtype::U8, shape: vec![json.len()], data: Bytes::copy_from_slice(json.as_bytes()) }
}

#[test]
fn tensors_that_are_missing_or_too_many() {
    for nested in [false, true] {
        for name in written(nested).keys() {
            let mut tensors = written(nested);
            tensors.remove(name);
            let error = read(&tensors).unwrap_err();
            assert!(matches!(&error, QuantError::MissingTensor { .. }), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
    let mut tensors = written(true);
    let json = QuantState { nested: None, ..QuantState::of(&quantized(true)) }.to_json();
    tensors.insert(Companion::State(QuantType::Nf4).of(P), state(&json));
    assert!(message(&tensors).contains("no double quantisation"));
    let mut tensors = written(false);
    tensors.insert(Companion::State(QuantType::Fp4).of(P), state("{}"));
    assert!(matches!(read(&tensors), Err(QuantError::ConflictingStates { .. })));
}

#[test]
fn tensors_of_another_kind() {
    for nested in [false, true] {
        for name in written(nested).keys() {
            for change in 0..4 {
                let mut tensors = written(nested);
                let tensor = tensors.get_mut(name).unwrap();
                match change {
                    0 => tensor.dtype = Dtype::F16,
                    1 => tensor.shape.push(1),
                    2 => tensor.shape[0] += 1,
                    _ => tensor.data = tensor.data.slice(1..),
                }
                let error = read(&tensors).unwrap_err().to_string();
                assert!(error.contains(name), "{name} {change}: {error}");
            }
        }
    }
}

#[test]
fn codes_under_other_names() {
    for nested in [false, true] {
        for (dtype, size) in format::CODE_DTYPES {
            let mut tensors = written(nested);
            let codes = tensors.get_mut(P).unwrap();
            (codes.dtype, codes.shape) = (dtype, vec![600 / size, 1]);
            assert_eq!(read(&tensors).unwrap(), quantized(nested), "{dtype:?}");
            for shape in [vec![600 / size], vec![1, 600 / size], vec![600 / size + 1, 1], vec![usize::MAX, 1], vec![]] {
                let mut tensors = tensors.clone();
                tensors.get_mut(P).unwrap().shape = shape.clone();
                assert!(message(&tensors).contains("as many bytes"), "{dtype:?} {shape:?}");
            }
        }
        let mut tensors = written(nested);
        tensors.get_mut(P).unwrap().dtype = Dtype::I16;
        assert!(message(&tensors).contains("I16"));
    }
}

#[test]
fn scales_that_were_rearranged_for_one_processor() {
    let mut tensors = written(false);
    let absmax = tensors.get_mut(&Companion::Absmax.of(P)).unwrap();
    (absmax.dtype, absmax.shape) = (Dtype::BF16, vec![1, 19]);
    let error = read(&tensors).unwrap_err();
    assert!(matches!(&error, QuantError::RepackedAbsmax { .. }), "{error}");
    assert!(error.to_string().contains("quantise the original checkpoint again"), "{error}");
}

#[test]
fn other_tables_and_scales_that_are_not_finite() {
    for companion in [Companion::QuantMap, Companion::NestedQuantMap, Companion::NestedAbsmax] {
        let mut tensors = written(true);
        let tensor = tensors.get_mut(&companion.of(P)).unwrap();
        let mut data = tensor.data.to_vec();
        data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        tensor.data = data.into();
        assert!(message(&tensors).contains("NaN"), "{companion:?}");
    }
    let nested = NestedAbsmax { codes: vec![0; 19], absmax: vec![1.0], offset: f32::INFINITY };
    let weight = quantized(false);
    let parts = (weight.quant_type(), weight.blocksize(), weight.shape(), weight.dtype(), weight.packed().clone());
    let made = Quantized4bit::from_parts(parts.0, parts.1, parts.2, parts.3, parts.4, Absmax::Nested(nested));
    assert!(matches!(made, Err(QuantError::InvalidScale { part: "nested_offset", .. })));
}

#[test]
fn states_that_lie() {
    let valid = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [40, 30]}"#;
    for (from, to, expected) in [
        ("\"nf4\"", "\"fp4\"", "quant_type"),
        ("64", "48", "48"),
        ("64", "1e99", "blocksize"),
        ("64", "-64", "blocksize"),
        ("float32", "int8", "dtype"),
        ("[40, 30]", "[40]", "shape"),
        ("[40, 30]", "[40, 30.5]", "shape"),
        ("[40, 30]", "null", "shape"),
        ("[40, 30]", "[0, 30]", "positive"),
        ("[40, 30]", "[9223372036854775807, 9223372036854775807]", "fit in memory"),
        ("[40, 30]", "[4294967296, 1048576]", "expected"),
        ("[40, 30]", "[30, 41]", "expected"),
        ("}", ", \"nested_blocksize\": 64}", "nested_blocksize"),
        ("}", ", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": 1e300}", "nested_offset"),
        ("}", ", \"nested_offset\": 0.5}", "nested_blocksize"),
        (", \"shape\": [40, 30]", "", "shape"),
        ("{", "[", "JSON"),
    ] {
        let mut tensors = written(false);
        tensors.insert(Companion::State(QuantType::Nf4).of(P), state(&valid.replacen(from, to, 1)));
        let error = message(&tensors);
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
    let mut tensors = written(false);
    tensors.insert(Companion::State(QuantType::Nf4).of(P), state(&"[".repeat(1 << 17)));
    assert!(message(&tensors).contains("too many"));
    tensors.insert(Companion::State(QuantType::Nf4).of(P), state(&"[".repeat(1 << 12)));
    assert!(message(&tensors).contains("JSON"));
}
