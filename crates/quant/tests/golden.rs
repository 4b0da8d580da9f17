//! What bitsandbytes made of the same weights, bit for bit (`golden/generate.py`).

use automodel_quant::{
    Elements, OwnedElements, QuantWeight, WeightDtype,
    table16::{Absmax, Blocksize, NestedAbsmax, QuantType, Quantized4bit, Quantizer, dynamic_map},
};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

const FILE: &[u8] = include_bytes!("golden/quantized.safetensors");

struct Golden {
    file: SafeTensors<'static>,
    cases: serde_json::Map<String, Value>,
}

fn golden() -> Golden {
    let (_, metadata) = SafeTensors::read_metadata(FILE).unwrap();
    let cases = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
    Golden { file: SafeTensors::deserialize(FILE).unwrap(), cases }
}

impl Golden {
    fn tensor(&self, case: &str, part: &str) -> TensorView<'_> {
        self.file.tensor(&format!("{case}.{part}")).unwrap()
    }

    fn floats(&self, case: &str, part: &str) -> Vec<f32> {
        floats(self.tensor(case, part).data())
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

fn elements(view: &TensorView<'_>) -> OwnedElements {
    let halves = || view.data().as_chunks().0.iter().map(|two| u16::from_le_bytes(*two));
    match view.dtype() {
        Dtype::F32 => OwnedElements::F32(floats(view.data())),
        Dtype::F16 => OwnedElements::F16(halves().map(f16::from_bits).collect()),
        Dtype::BF16 => OwnedElements::BF16(halves().map(bf16::from_bits).collect()),
        other => panic!("{other:?}"),
    }
}

fn window(values: &OwnedElements, from: usize, to: usize) -> Elements<'_> {
    match values {
        OwnedElements::F32(values) => Elements::F32(&values[from..to]),
        OwnedElements::F16(values) => Elements::F16(&values[from..to]),
        OwnedElements::BF16(values) => Elements::BF16(&values[from..to]),
    }
}

/// Bits of the elements; zeros count as equal where bitsandbytes itself decodes FP4's second zero with either sign.
fn bits(values: &OwnedElements, one_zero: bool) -> Vec<u32> {
    let bits: Vec<u32> = match values {
        OwnedElements::F32(values) => values.iter().map(|value| value.to_bits()).collect(),
        OwnedElements::F16(values) => values.iter().map(|value| u32::from(value.to_bits()) << 16).collect(),
        OwnedElements::BF16(values) => values.iter().map(|value| u32::from(value.to_bits()) << 16).collect(),
    };
    bits.into_iter().map(|bits| if one_zero && bits == 1 << 31 { 0 } else { bits }).collect()
}

fn float_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn codes_scales_and_decoded_values() {
    let golden = golden();
    let mut seen = 0;
    for (name, case) in golden.cases.iter().filter(|(_, case)| case.get("quant_type").is_some()) {
        let input = golden.tensor(name, "input");
        let shape: [usize; 2] = input.shape().try_into().unwrap();
        let weight = elements(&input);
        let all = window(&weight, 0, shape[0] * shape[1]);
        let quant_type = if case["quant_type"] == "nf4" { QuantType::Nf4 } else { QuantType::Fp4 };
        let blocksize = Blocksize::new(case["blocksize"].as_u64().unwrap() as usize).unwrap();

        let mut quantized = Quantized4bit::quantize(quant_type, blocksize, shape, all).unwrap();
        assert_eq!(quantized.packed(), golden.tensor(name, "packed").data(), "{name}");
        if case["nested"] == true {
            let offset = case["nested_offset"].as_f64().unwrap() as f32;
            let ours = NestedAbsmax::quantize(&quantized.scales());
            assert!((ours.offset - offset).abs() <= offset.abs() * 4.0 * f32::EPSILON, "{name}");
            let nested = NestedAbsmax::quantize_around(&quantized.scales(), offset);
            assert_eq!(nested.codes, golden.tensor(name, "absmax").data(), "{name}");
            assert_eq!(float_bits(&nested.absmax), float_bits(&golden.floats(name, "nested_absmax")), "{name}");
            assert_eq!(dynamic_map().as_slice(), golden.floats(name, "nested_quant_map"), "{name}");
            let (dtype, packed) = (quantized.dtype(), quantized.packed().clone());
            let absmax = Absmax::Nested(nested);
            quantized = Quantized4bit::from_parts(quant_type, blocksize, shape, dtype, packed, absmax).unwrap();
        } else {
            assert_eq!(float_bits(&quantized.scales()), float_bits(&golden.floats(name, "absmax")), "{name}");
        }
        // Weights with rows of odd length take another path in bitsandbytes, which decodes code 8 of FP4 to plus zero.
        let one_zero = quant_type == QuantType::Fp4 && shape[1] % 2 == 1;
        let decoded = bits(&QuantWeight::from(&quantized).dequantize_to_original(), one_zero);
        let expected = bits(&elements(&golden.tensor(name, "decoded")), one_zero);
        let differing = decoded.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!((differing, decoded.len()), (0, expected.len()), "{name}");
        seen += 1;
    }
    assert!(seen >= 100, "{seen} cases");
}

#[test]
fn windows_of_any_size_and_order_make_the_same_weight() {
    let golden = golden();
    for (name, case) in golden.cases.iter().filter(|(_, case)| case.get("quant_type").is_some()) {
        let input = golden.tensor(name, "input");
        let shape: [usize; 2] = input.shape().try_into().unwrap();
        let (weight, elements) = (elements(&input), shape[0] * shape[1]);
        let quant_type = if case["quant_type"] == "nf4" { QuantType::Nf4 } else { QuantType::Fp4 };
        let blocksize = Blocksize::new(case["blocksize"].as_u64().unwrap() as usize).unwrap();
        let dtype = window(&weight, 0, 0).dtype();
        for step in [1, 7, 33, 64, 1000] {
            let mut quantizer = Quantizer::new(quant_type, blocksize, shape, dtype).unwrap();
            let starts: Vec<usize> = (0..elements).step_by(step).collect();
            let (even, odd): (Vec<usize>, Vec<usize>) = starts.into_iter().partition(|start| start / step % 2 == 0);
            for start in even.into_iter().rev().chain(odd) {
                quantizer.fill(start, window(&weight, start, (start + step).min(elements))).unwrap();
            }
            let quantized = quantizer.finish().unwrap();
            assert_eq!(quantized.packed(), golden.tensor(name, "packed").data(), "{name} in windows of {step}");
        }
    }
}

#[test]
fn nested_scales() {
    let golden = golden();
    assert_eq!(float_bits(dynamic_map()), float_bits(&floats(golden.file.tensor("dynamic_map").unwrap().data())));
    let mut seen = 0;
    for (name, case) in golden.cases.iter().filter(|(_, case)| case.get("scales").is_some()) {
        let offset = case["nested_offset"].as_f64().unwrap() as f32;
        let nested = NestedAbsmax::quantize_around(&golden.floats(name, "absmax"), offset);
        assert_eq!(nested.codes, golden.tensor(name, "codes").data(), "{name}");
        assert_eq!(float_bits(&nested.absmax), float_bits(&golden.floats(name, "nested_absmax")), "{name}");
        assert_eq!(float_bits(&nested.dequantize()), float_bits(&golden.floats(name, "decoded")), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn dtypes_are_those_of_the_input() {
    let golden = golden();
    for (name, dtype) in
        [("float32", WeightDtype::Float32), ("float16", WeightDtype::Float16), ("bfloat16", WeightDtype::BFloat16)]
    {
        let input = elements(&golden.tensor(&format!("one.nf4.{name}"), "input"));
        assert_eq!(window(&input, 0, 1).dtype(), dtype);
    }
}
