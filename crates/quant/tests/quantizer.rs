//! Windows that do not fit, and elements that cannot be coded.

use automodel_quant::{
    Elements, QuantError, WeightDtype,
    table16::{Blocksize, QuantType, Quantized4bit, Quantizer},
};
use half::{bf16, f16};

fn quantizer(shape: [usize; 2]) -> Quantizer {
    Quantizer::new(QuantType::Nf4, Blocksize::default(), shape, WeightDtype::Float32).unwrap()
}

#[test]
fn the_place_of_an_element_that_is_not_finite_is_that_in_the_whole_weight() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // In a block of its own, in a block across windows, in the short last block, and far on in a large weight.
        for (shape, place) in [([4, 64], 70), ([4, 64], 135), ([3, 50], 149), ([600, 200], 119_000)] {
            let mut weight = vec![0.5f32; shape[0] * shape[1]];
            weight[place] = bad;
            let mut quantizer = quantizer(shape);
            let error = quantizer.fill(0, Elements::F32(&weight[..60])).err();
            assert!(error.is_none());
            let error = quantizer.fill(60, Elements::F32(&weight[60..])).unwrap_err();
            assert!(
                matches!(error, QuantError::NonFinite { index, value } if index == place && !value.is_finite()),
                "{error}"
            );
            assert!(matches!(quantizer.finish(), Err(QuantError::IncompleteWeight { filled: 60, .. })));
        }
    }
    let halves = [f16::ONE, f16::INFINITY];
    let error =
        Quantized4bit::quantize(QuantType::Fp4, Blocksize::default(), [1, 2], Elements::F16(&halves)).unwrap_err();
    assert!(matches!(error, QuantError::NonFinite { index: 1, .. }), "{error}");
    let brain = [bf16::NAN; 64];
    let error =
        Quantized4bit::quantize(QuantType::Fp4, Blocksize::default(), [1, 64], Elements::BF16(&brain)).unwrap_err();
    assert!(error.to_string().contains("element 0"), "{error}");
}

#[test]
fn windows_must_lie_within_the_weight_and_come_once() {
    let mut quantizer = quantizer([4, 64]);
    let values = vec![1.0f32; 256];
    for (offset, len) in [(200, 57), (257, 0), (usize::MAX, 2), (usize::MAX, 1)] {
        let error = quantizer.fill(offset, Elements::F32(&values[..len])).unwrap_err();
        assert!(matches!(error, QuantError::WindowOutOfRange { .. }), "{error}");
    }
    assert!(matches!(quantizer.fill(0, Elements::F16(&[f16::ONE])), Err(QuantError::MixedDtypes { .. })));
    quantizer.fill(10, Elements::F32(&values[..20])).unwrap();
    quantizer.fill(100, Elements::F32(&values[..50])).unwrap();
    for (offset, len) in [(0, 11), (29, 1), (10, 20), (15, 3), (99, 2), (149, 100), (0, 256)] {
        let error = quantizer.fill(offset, Elements::F32(&values[..len])).unwrap_err();
        assert!(matches!(error, QuantError::WindowOverlap { .. }), "{offset} {len}: {error}");
    }
    quantizer.fill(30, Elements::F32(&values[..70])).unwrap();
    quantizer.fill(0, Elements::F32(&values[..10])).unwrap();
    quantizer.fill(150, Elements::F32(&values[..0])).unwrap();
    quantizer.fill(150, Elements::F32(&values[..106])).unwrap();
    assert_eq!(quantizer.finish().unwrap().dequantize::<f32>(), values);
}

#[test]
fn shapes_that_cannot_be() {
    let new = |shape| Quantizer::new(QuantType::Nf4, Blocksize::default(), shape, WeightDtype::Float32);
    for shape in [[0, 4], [4, 0], [usize::MAX, 2], [1 << 40, 1 << 40]] {
        assert!(matches!(new(shape), Err(QuantError::InvalidShape { .. })), "{shape:?}");
    }
    assert!(matches!(new([1 << 30, 1 << 29]), Err(QuantError::Allocation { .. })));
    assert!(matches!(quantizer([2, 2]).finish(), Err(QuantError::IncompleteWeight { filled: 0, elements: 4 })));
    for blocksize in [0, 1, 16, 63, 65, 8192, usize::MAX] {
        assert!(matches!(Blocksize::new(blocksize), Err(QuantError::InvalidBlocksize { .. })), "{blocksize}");
    }
}
