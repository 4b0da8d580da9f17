//! Products with those weights of a stack that the device has chosen.

use super::{assert_close, device, quantized, values};
use automodel_quant::{QuantLinear, WeightStack, dense_product, table16::QuantType};
use burn::module::{Param, ParamId};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Choices of two for each of three rows, from five.
const CHOSEN: [[i32; 2]; 3] = [[4, 0], [2, 3], [0, 2]];
const FACTORS: [[f32; 2]; 3] = [[0.75, 0.25], [1.5, -1.0], [0.0, 3.0]];

fn supported(device: &Device) -> Vec<DType> {
    [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)).collect()
}

fn tensor(shape: [usize; 2], seed: usize, dtype: DType, device: &Device) -> Tensor<2> {
    let values = values(shape[0] * shape[1] + seed).split_off(seed);
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.try_into_data().unwrap().convert::<f32>().try_into_vec().unwrap()
}

fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => 2e-5,
    }
}

/// Products of a stack of ten weights, of which a choice is two, and weighted sums of one of five, beside `product` of the CPU with the
/// weight of an index and float32 activations.
fn check(
    [out_features, in_features]: [usize; 2],
    [pairs, singles]: [WeightStack; 2],
    product: &dyn Fn(usize, Tensor<2>) -> Tensor<2>,
    what: &str,
    device: &Device,
) {
    assert_eq!([pairs.count(), singles.count()], [5, 5], "{what}");
    let cpu = Device::flex();
    let chosen = Tensor::<2, Int>::from_data(TensorData::from(CHOSEN), (device, DType::I32));
    for dtype in supported(device) {
        let x = tensor([3, in_features], 3, dtype, &cpu);
        let found = floats(pairs.products(Tensor::from_data(x.clone().into_data(), (device, dtype)), &chosen));
        let mut expected = Vec::new();
        for (row, choices) in CHOSEN.iter().enumerate() {
            for &choice in choices {
                let x = x.clone().narrow(0, row, 1).cast(DType::F32);
                for part in 0..2 {
                    expected.extend(floats(product(2 * choice as usize + part, x.clone())));
                }
            }
        }
        assert_close(&[found, expected], tolerance(dtype), &format!("{what}, {dtype:?}"));

        let x = tensor([6, in_features], 5, dtype, &cpu);
        let factors = Tensor::from_data(TensorData::from(FACTORS), (device, DType::F32));
        let there = Tensor::from_data(x.clone().into_data(), (device, dtype));
        let found = floats(singles.weighted_sum(there, &chosen, factors));
        let mut expected = Vec::new();
        for (row, choices) in CHOSEN.iter().enumerate() {
            let mut sum = Tensor::<2>::zeros([1, out_features], &cpu);
            for (slot, &choice) in choices.iter().enumerate() {
                let x = x.clone().narrow(0, 2 * row + slot, 1).cast(DType::F32);
                sum = sum + product(choice as usize, x) * FACTORS[row][slot];
            }
            expected.extend(floats(sum));
        }
        assert_close(&[found, expected], tolerance(dtype), &format!("weighted sums of {what}, {dtype:?}"));
    }
}

#[test]
fn chosen_products_with_4bit_weights_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    // Words in vectors of four, two, one; a block that is cut off; several units for a row.
    for (shape, blocksize, nested) in
        [([8, 128], 64, false), ([5, 80], 32, true), ([3, 24], 64, true), ([3, 24], 64, false), ([6, 2048], 128, true)]
    {
        let quant_type = if shape[1] == 80 { QuantType::Fp4 } else { QuantType::Nf4 };
        let weights: Vec<_> = (0..10)
            .map(|index| {
                // Weights that differ: a stretch of a larger one.
                let all = quantized(quant_type, blocksize, [shape[0] * 10, shape[1]]).dequantize::<f32>();
                let size = shape[0] * shape[1];
                let values = &all[index * size..(index + 1) * size];
                let blocksize = automodel_quant::table16::Blocksize::new(blocksize).unwrap();
                let elements = automodel_quant::Elements::F32(values);
                let weight =
                    automodel_quant::table16::Quantized4bit::quantize(quant_type, blocksize, shape, elements).unwrap();
                if nested { weight.nested() } else { weight }
            })
            .collect();
        let mut layers: Vec<QuantLinear> =
            weights.iter().map(|weight| QuantLinear::new(weight, None, &device)).collect();
        let singles = WeightStack::of_quantized(layers[..5].iter_mut().collect(), 1).unwrap();
        // Weights that are parts of a stack become parts of another.
        let pairs = WeightStack::of_quantized(layers.iter_mut().collect(), 2).unwrap();
        let product = |index: usize, x| QuantLinear::new(&weights[index], None, &Device::flex()).forward(x);
        let what = format!("{shape:?} in blocks of {blocksize}, nested: {nested}");
        check(shape, [pairs, singles], &product, &what, &device);
        for (layer, weight) in layers.iter().zip(weights) {
            assert_eq!(layer.to_weight().and_then(|weight| weight.table16()), Some(weight), "{what}");
        }
    }
}

#[test]
fn chosen_products_with_dense_weights_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    for shape in [[8, 128], [4, 77], [3, 2050]] {
        for dtype in supported(&device) {
            let what = format!("dense {shape:?} {dtype:?}");
            let weight = |index: usize, device: &Device| tensor(shape, 7 * index, dtype, device);
            let params = |count: usize| -> Vec<Param<Tensor<2>>> {
                (0..count).map(|index| Param::initialized(ParamId::new(), weight(index, &device))).collect()
            };
            let (mut ten, mut five) = (params(10), params(5));
            let pairs = WeightStack::of_dense(ten.iter_mut().collect(), 2);
            let Some(singles) = WeightStack::of_dense(five.iter_mut().collect(), 1) else {
                assert!(!(shape[0] * shape[1] * dtype.size()).is_multiple_of(4), "{what}");
                continue;
            };
            let product = |index: usize, x| dense_product(x, weight(index, &Device::flex()));
            check(shape, [pairs.unwrap(), singles], &product, &what, &device);
            for (index, param) in ten.iter().enumerate() {
                assert_eq!(floats(param.val()), floats(weight(index, &Device::flex())), "{what}");
            }
        }
    }
}

#[test]
fn weights_that_differ_make_no_stack() {
    let Some(device) = device() else { return };
    let layer = |shape, blocksize| QuantLinear::new(quantized(QuantType::Nf4, blocksize, shape), None, &device);
    let stack = |mut layers: Vec<QuantLinear>, parts| WeightStack::of_quantized(layers.iter_mut().collect(), parts);
    assert!(stack(vec![layer([4, 64], 64), layer([4, 64], 64)], 2).is_some());
    assert!(stack(vec![layer([4, 64], 64), layer([4, 64], 32)], 2).is_none());
    assert!(stack(vec![layer([4, 64], 64), layer([8, 64], 64)], 2).is_none());
    assert!(stack(vec![layer([4, 64], 64)], 2).is_none());
    assert!(stack(vec![layer([4, 60], 64)], 1).is_none());
    assert!(stack(vec![], 1).is_none());
    let param = |dtype| Param::initialized(ParamId::new(), tensor([4, 64], 0, dtype, &Device::flex()));
    assert!(WeightStack::of_dense(vec![&mut param(DType::F32)], 1).is_none(), "there is no kernel on the CPU");
}

#[test]
fn compiles_chosen_products_for_every_dtype() {
    let Some(device) = device() else { return };
    let weight = quantized(QuantType::Nf4, 64, [16, 128]);
    let chosen = Tensor::<2, Int>::from_data(TensorData::from([[1i32]]), (&device, DType::I32));
    for dtype in supported(&device) {
        let x = || tensor([1, 128], 0, dtype, &device);
        let mut stacks = Vec::new();
        for weight in [weight.clone(), weight.clone().nested()] {
            let mut layers = [0, 1].map(|_| QuantLinear::new(&weight, None, &device));
            stacks.push(WeightStack::of_quantized(layers.iter_mut().collect(), 1).unwrap());
        }
        let mut params = [0, 1].map(|seed| Param::initialized(ParamId::new(), tensor([16, 128], seed, dtype, &device)));
        stacks.push(WeightStack::of_dense(params.iter_mut().collect(), 1).unwrap());
        for stack in stacks {
            // A kernel that does not compile shows when its result is read.
            let y = stack.products(x(), &chosen).try_into_data();
            assert!(y.is_ok(), "{dtype:?}: {}", y.unwrap_err());
            let y = stack.weighted_sum(x(), &chosen, Tensor::ones([1, 1], (&device, DType::F32))).try_into_data();
            assert!(y.is_ok(), "{dtype:?}: {}", y.unwrap_err());
        }
    }
}
