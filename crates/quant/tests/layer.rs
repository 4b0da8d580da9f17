//! The Burn layer against a dense layer of the dequantised weight, with gradients.

use automodel_quant::{
    Elements, Precision, QuantLinear, Scheme,
    table16::{Absmax, Blocksize, QuantType, Quantized4bit},
};
use burn::module::{Module, Param, ParamId};
use burn::nn::LinearConfig;
use burn::store::ModuleRecord;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use burn_flex::Flex;
use half::bf16;

fn weight(quant_type: QuantType, shape: [usize; 2]) -> Quantized4bit {
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| ((i * i) as f32 * 0.37).sin() * 0.1).collect();
    Quantized4bit::quantize(quant_type, Blocksize::new(32).unwrap(), shape, Elements::F32(&values)).unwrap()
}

fn dense(weight: &Quantized4bit, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(weight.dequantize::<f32>(), weight.shape()), (device, DType::F32))
}

fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    (a.cast(DType::F32) - b.cast(DType::F32)).abs().max().into_scalar::<f32>()
}

#[test]
fn forward_is_that_of_the_dense_layer() {
    let device = Device::flex();
    for quant_type in [QuantType::Nf4, QuantType::Fp4] {
        for shape in [[48, 96], [7, 33]] {
            let weight = weight(quant_type, shape);
            for rows in [1, 5, 40] {
                let x = Tensor::<2>::random([rows, shape[1]], Distribution::Uniform(-1.0, 1.0), &device);
                let expected = x.clone().matmul(dense(&weight, &device).transpose());
                for (precision, tolerance) in [(Precision::Exact, 1e-5), (Precision::Fast, 1e-4)] {
                    let layer = QuantLinear::new(&weight, None, &device).with_precision(precision);
                    let error = difference(layer.forward(x.clone()), expected.clone());
                    assert!(error < tolerance, "{quant_type:?} {shape:?} {rows} {precision:?}: {error}");
                }
                for (dtype, tolerance) in [(DType::F16, 4e-3), (DType::BF16, 3e-2)] {
                    let y = QuantLinear::new(&weight, None, &device).forward(x.clone().cast(dtype));
                    assert_eq!(y.dtype(), dtype);
                    let error = difference(y, expected.clone());
                    assert!(error < tolerance, "{quant_type:?} {shape:?} {rows} {dtype:?}: {error}");
                }
            }
        }
    }
}

#[test]
fn any_rank_bias_and_nested_scales() {
    let device = Device::flex();
    let weight = weight(QuantType::Nf4, [16, 64]).nested();
    let bias = Tensor::<1>::random([16], Distribution::Uniform(-1.0, 1.0), &device);
    let layer = QuantLinear::new(&weight, Some(bias.clone()), &device);
    let x = Tensor::<3>::random([2, 3, 64], Distribution::Uniform(-1.0, 1.0), &device);
    let expected = x.clone().reshape([6, 64]).matmul(dense(&weight, &device).transpose()) + bias.unsqueeze();
    assert!(difference(layer.forward(x), expected.reshape([2, 3, 16])) < 1e-4);
}

#[test]
fn gradients_reach_the_activations_and_the_bias_but_not_the_weight() {
    let device = Device::flex().autodiff();
    let weight = weight(QuantType::Nf4, [300, 64]);
    for rows in [3, 40] {
        let x = Tensor::<2>::random([rows, 64], Distribution::Uniform(-1.0, 1.0), &device).require_grad();
        let seed = Tensor::<2>::random([rows, 300], Distribution::Uniform(-1.0, 1.0), &device);
        let mut layer = QuantLinear::new(&weight, None, &device);
        layer.bias = Some(Param::from_tensor(Tensor::zeros([300], &device)));
        let gradients = (layer.forward(x.clone()) * seed.clone()).sum().backward();
        let dx = x.grad(&gradients).unwrap();

        let dense_x = x.clone().detach().require_grad();
        let product = dense_x.clone().matmul(dense(&weight, &device).transpose());
        let expected = (product * seed.clone()).sum().backward();
        let expected = dense_x.grad(&expected).unwrap();
        assert!(difference(dx, expected) < 1e-5, "{rows} rows");

        assert!(layer.scales.val().grad(&gradients).is_none());
        let bias = layer.bias.unwrap().val().grad(&gradients).unwrap();
        assert!(difference(bias, seed.inner().sum_dim(0).squeeze_dim(0)) < 1e-4);
    }
}

#[test]
fn a_layer_without_autodiff_takes_activations_with_it() {
    let plain = Device::flex();
    let weight = weight(QuantType::Fp4, [24, 32]);
    let layer = QuantLinear::new(&weight, None, &plain);
    let x = Tensor::<2>::ones([2, 32], &plain.clone().autodiff()).require_grad();
    let gradients = layer.forward(x.clone()).sum().backward();
    let expected = dense(&weight, &plain).sum_dim(0);
    assert!(difference(x.grad(&gradients).unwrap(), expected.repeat_dim(0, 2)) < 1e-5);
}

#[test]
fn codes_are_not_copied_and_survive_clones() {
    let device = Device::flex();
    let weight = weight(QuantType::Nf4, [64, 64]);
    let layer = QuantLinear::new(&weight, None, &device);
    let data = layer.clone().codes.val().into_data();
    assert_eq!(data.dtype(), DType::U8);
    assert_eq!(data.bytes().as_ref() as &[u8], &weight.packed()[..]);
    let on_device = layer.clone().codes.val().try_into_primitive::<Flex>().unwrap();
    assert_eq!(on_device.bytes().as_ptr(), weight.packed().as_ptr());
    assert_eq!(
        layer.to_weight().and_then(|weight| weight.table16()).unwrap().packed().as_ptr(),
        weight.packed().as_ptr()
    );
}

#[test]
fn a_layer_gives_its_weight_back() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        for (quant_type, shape) in [(QuantType::Nf4, [48, 96]), (QuantType::Fp4, [7, 33]), (QuantType::Nf4, [1, 1])] {
            let values: Vec<bf16> = (0..shape[0] * shape[1]).map(|i| bf16::from_f32((i as f32).cos())).collect();
            let blocksize = Blocksize::new(128).unwrap();
            let weight = Quantized4bit::quantize(quant_type, blocksize, shape, Elements::BF16(&values)).unwrap();
            let layer = QuantLinear::new(&weight, None, &device);
            assert_eq!(layer.to_weight().and_then(|weight| weight.table16()).unwrap(), weight);

            // Scales in 8 bits come back as what they stand for.
            let nested = weight.nested();
            let found =
                QuantLinear::new(&nested, None, &device).to_weight().and_then(|weight| weight.table16()).unwrap();
            assert_eq!((found.packed(), found.dtype()), (nested.packed(), nested.dtype()));
            assert_eq!(found.absmax(), &Absmax::Plain(nested.scales()));
        }
    }
}

#[test]
fn codes_and_scales_that_do_not_fit_are_no_weight() {
    let device = Device::flex();
    let weight = weight(QuantType::Nf4, [4, 64]);
    let mut layer = QuantLinear::new(&weight, None, &device);
    layer.scales = Param::from_tensor(Tensor::zeros([3], &device));
    assert!(layer.to_weight().and_then(|weight| weight.table16()).is_none());
    let mut layer = QuantLinear::new(&weight, None, &device);
    layer.codes = Param::initialized(ParamId::new(), Tensor::zeros([128], (&device, DType::I32)));
    assert!(layer.to_weight().and_then(|weight| weight.table16()).is_none());
}

#[test]
fn a_record_loads_into_a_layer_of_the_same_layout_and_no_other() {
    let device = Device::flex();
    let layer = |quant_type, blocksize: usize, shape: [usize; 2]| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i as f32 * 0.7).sin()).collect();
        let blocksize = Blocksize::new(blocksize).unwrap();
        let weight = Quantized4bit::quantize(quant_type, blocksize, shape, Elements::F32(&values)).unwrap();
        QuantLinear::new(&weight, None, &device)
    };
    let saved = || {
        let bytes = layer(QuantType::Nf4, 64, [64, 64]).into_record().into_bytes().unwrap();
        ModuleRecord::from_bytes(bytes).unwrap()
    };
    let zeros = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [64, 64], Elements::F32(&[0.0; 4096]));
    let same = QuantLinear::new(zeros.unwrap(), None, &device).try_load_record(saved()).unwrap();
    assert_eq!(
        same.to_weight().and_then(|weight| weight.table16()),
        layer(QuantType::Nf4, 64, [64, 64]).to_weight().and_then(|weight| weight.table16())
    );
    // Codes and scales of all of these have the same shapes.
    let half = vec![bf16::from_f32(0.5); 4096];
    let half = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [64, 64], Elements::BF16(&half)).unwrap();
    for other in [
        layer(QuantType::Fp4, 64, [64, 64]),
        layer(QuantType::Nf4, 64, [32, 128]),
        QuantLinear::new(&half, None, &device),
    ] {
        let error = other.try_load_record(saved()).unwrap_err().to_string();
        assert!(error.contains("read_as"), "{error}");
    }
    // The scales of this one have not, but the message may name the layout all the same.
    assert!(layer(QuantType::Nf4, 128, [64, 64]).try_load_record(saved()).is_err());
}

#[test]
fn a_layer_of_burn_is_quantised_the_right_way_round() {
    let device = Device::flex();
    for (inputs, outputs) in [(64, 64), (96, 32)] {
        let linear = LinearConfig::new(inputs, outputs).init(&device);
        let layer =
            QuantLinear::from_linear(&linear, Scheme::nf4().with_blocksize(Blocksize::new(32).unwrap())).unwrap();
        assert_eq!(layer.shape(), [outputs, inputs]);
        let x = Tensor::<2>::random([5, inputs], Distribution::Uniform(-1.0, 1.0), &device);
        let expected = linear.forward(x.clone());
        let size = expected.clone().abs().max().into_scalar::<f32>();
        let error = difference(layer.forward(x.clone()), expected);
        assert!(error < 0.2 * size, "{error} of {size}");
        let turned = dense(&layer.to_weight().and_then(|weight| weight.table16()).unwrap(), &device).transpose();
        assert!(difference(turned, linear.weight.val()) < 0.05 * size.max(1.0));
    }
}
