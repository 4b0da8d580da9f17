//! Every instruction set against plain Rust, and plain Rust against bitsandbytes' own formulas.

use half::{bf16, f16};
use proptest::prelude::*;

use super::super::QuantType;
use super::{dequantize, quantize_blocks};
use crate::{Element, cpu::Isa};

/// Codes and scales by the formulas of bitsandbytes' `quantize_4bit`, one element after the other.
fn reference(quant_type: QuantType, blocksize: usize, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let code = quant_type.code();
    let mut order: Vec<usize> = (0..16).collect();
    order.sort_by(|&a, &b| code[a].total_cmp(&code[b]));
    let bounds: Vec<f32> = order.windows(2).map(|pair| (code[pair[0]] + code[pair[1]]) / 2.0).collect();
    let mut codes = Vec::new();
    let mut scales = Vec::new();
    for block in values.chunks(blocksize) {
        let absmax = block.iter().fold(0.0f32, |absmax, value| absmax.max(value.abs()));
        let factor = 1.0 / absmax.max(1e-38);
        codes.extend(
            block.iter().map(|value| order[bounds.iter().filter(|&&bound| bound < value * factor).count()] as u8),
        );
        scales.push(absmax);
    }
    (codes.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect(), scales)
}

/// Any finite number, and those next to the bounds of a block whose scale is `scale`.
fn any_value(scale: f32) -> impl Strategy<Value = f32> {
    let place = (0usize..15, -2i32..=2, proptest::bool::ANY);
    prop_oneof![
        -1.0f32..1.0,
        any::<u32>().prop_map(|bits| f32::from_bits(bits & 0x7f7f_ffff | bits & 0x8000_0000)),
        (0u32..0x80_0000).prop_map(f32::from_bits),
        Just(0.0),
        Just(-0.0),
        place.prop_map(move |(place, steps, nf4)| {
            let quant_type = if nf4 { QuantType::Nf4 } else { QuantType::Fp4 };
            let tie = quant_type.encoder().bounds[place] * scale;
            (0..steps.abs()).fold(tie, |tie, _| if steps < 0 { tie.next_down() } else { tie.next_up() })
        }),
    ]
}

fn case() -> impl Strategy<Value = (QuantType, usize, Vec<f32>)> {
    let scale = prop_oneof![Just(1.0f32), Just(0.73), Just(3e-5), Just(1.1e-38), Just(2e-39), 1e-3f32..1e3];
    let sizes = (prop_oneof![Just(32usize), Just(64), Just(128)], 1usize..5, proptest::bool::ANY);
    (sizes, scale).prop_flat_map(|((blocksize, blocks, nf4), scale)| {
        let quant_type = if nf4 { QuantType::Nf4 } else { QuantType::Fp4 };
        proptest::collection::vec(any_value(scale), blocksize * blocks).prop_map(move |mut values| {
            // Most blocks get the scale that their ties are made for.
            for block in values.chunks_mut(blocksize).skip(usize::from(blocks > 3)) {
                block.iter_mut().for_each(|value| *value = value.clamp(-scale, scale));
                block[blocksize / 3] = scale;
            }
            (quant_type, blocksize, values)
        })
    })
}

fn quantize<T: Element>(isa: Isa, quant_type: QuantType, blocksize: usize, values: &[T]) -> (Vec<u8>, Vec<u32>) {
    let (mut packed, mut absmax) = (vec![0; values.len() / 2], vec![0.0; values.len() / blocksize]);
    quantize_blocks(isa, quant_type, blocksize, values, &mut packed, &mut absmax).unwrap();
    (packed, absmax.into_iter().map(f32::to_bits).collect())
}

fn same_codes<T: Element>(quant_type: QuantType, blocksize: usize, values: &[f32]) {
    let values: Vec<T> = values
        .iter()
        .map(|&value| T::from_f32(value))
        .map(|value| if value.to_f32().is_finite() { value } else { T::default() })
        .collect();
    let dense: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
    let (packed, absmax) = reference(quant_type, blocksize, &dense);
    let absmax: Vec<u32> = absmax.into_iter().map(f32::to_bits).collect();
    for isa in Isa::available() {
        assert_eq!(quantize(isa, quant_type, blocksize, &values), (packed.clone(), absmax.clone()), "{isa:?}");
    }
}

fn same_values<T: Element>(quant_type: QuantType, scale: f32, packed: &[u8]) {
    let decode = |isa: Isa| {
        let mut out = vec![T::default(); packed.len() * 2];
        dequantize(isa, quant_type, scale, packed, &mut out);
        out.into_iter().map(|value| value.to_f32().to_bits()).collect::<Vec<_>>()
    };
    for isa in Isa::available() {
        assert_eq!(decode(isa), decode(Isa::PORTABLE), "{isa:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantize_blocks_is_the_same_everywhere((quant_type, blocksize, values) in case()) {
        same_codes::<f32>(quant_type, blocksize, &values);
        same_codes::<f16>(quant_type, blocksize, &values);
        same_codes::<bf16>(quant_type, blocksize, &values);
    }

    #[test]
    fn dequantize_is_the_same_everywhere(
        nf4: bool,
        scale in prop_oneof![0f32..2.0, any_value(1.0)],
        packed in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let quant_type = if nf4 { QuantType::Nf4 } else { QuantType::Fp4 };
        same_values::<f32>(quant_type, scale, &packed);
        same_values::<f16>(quant_type, scale, &packed);
        same_values::<bf16>(quant_type, scale, &packed);
    }

    #[test]
    fn what_is_not_finite_is_found_in_its_block(place in 0usize..256, bad in 0usize..3) {
        let mut values = vec![1.0f32; 256];
        values[place] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][bad];
        let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
        for isa in Isa::available() {
            let (mut packed, mut absmax) = (vec![0; 128], vec![0.0; 4]);
            prop_assert_eq!(quantize_blocks(isa, QuantType::Nf4, 64, &values, &mut packed, &mut absmax), Err(place / 64));
            prop_assert_eq!(quantize_blocks(isa, QuantType::Nf4, 64, &halves, &mut packed, &mut absmax), Err(place / 64));
        }
    }
}
