//! The kernels for GPUs against those for the CPU, on whatever device a build with `cuda` or `wgpu` finds; a software Vulkan driver
//! will do.

mod stack;

use automodel_quant::{
    DeviceWeight, Elements, Precision, QuantError, QuantLinear, Scheme, WeightDtype, dense_product,
    self_test::{self, Kernel, Outcome},
    table16::{Absmax, Blocksize, DeviceQuantizer, NestedAbsmax, QuantType, Quantized4bit},
};
use burn::tensor::{DType, Device, DeviceType, Distribution, Tensor, TensorData};

/// The first GPU, or what poses as one.
fn device() -> Option<Device> {
    let kinds = [
        #[cfg(feature = "cuda")]
        DeviceType::Cuda,
        #[cfg(feature = "wgpu")]
        DeviceType::Wgpu,
    ];
    let found = kinds.into_iter().find_map(|kind| Device::enumerate(kind).into_iter().next());
    if found.is_none() {
        eprintln!("SKIPPED: no GPU and no software Vulkan driver, so the GPU kernels were not run");
    }
    found
}

fn quantized(quant_type: QuantType, blocksize: usize, shape: [usize; 2]) -> Quantized4bit {
    let values: Vec<f32> =
        (0..shape[0] * shape[1]).map(|i| (i as f32 * 1.7).sin() * (1.0 + (i / 97 % 5) as f32)).collect();
    let blocksize = Blocksize::new(blocksize).unwrap();
    Quantized4bit::quantize(quant_type, blocksize, shape, Elements::F32(&values)).unwrap()
}

/// Products on the device and on the CPU for activations of a dtype.
fn products(weight: &Quantized4bit, rows: usize, dtype: DType, device: &Device) -> [Vec<f32>; 2] {
    products_with(weight, rows, dtype, Precision::Exact, device)
}

fn products_with(
    weight: &Quantized4bit,
    rows: usize,
    dtype: DType,
    precision: Precision,
    device: &Device,
) -> [Vec<f32>; 2] {
    let cpu = Device::flex();
    let x = Tensor::<2>::random([rows, weight.shape()[1]], Distribution::Uniform(-1.0, 1.0), &cpu).cast(dtype);
    [device, &cpu].map(|device| {
        let x = Tensor::<2>::from_data(x.clone().into_data(), (device, dtype));
        let precision = if *device == cpu { Precision::Exact } else { precision };
        let y = QuantLinear::new(weight, None, device).with_precision(precision).forward(x);
        assert_eq!(y.dtype(), dtype);
        y.try_into_data().unwrap().convert::<f32>().try_into_vec().unwrap()
    })
}

/// Every value within a share of the greatest; NaN is not.
fn assert_close([gpu, cpu]: &[Vec<f32>; 2], share: f32, what: &str) {
    assert_eq!(gpu.len(), cpu.len(), "{what}");
    let greatest = cpu.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()));
    for (place, (a, b)) in gpu.iter().zip(cpu).enumerate() {
        assert!((a - b).abs() <= share * greatest, "{what}: {a} for {b} at {place}, the greatest is {greatest}");
    }
}

#[test]
fn products_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let shapes = [
        // Several units for a row, and one; words in vectors of four, two, one.
        ([64, 256], 64),
        ([5, 2048], 64),
        ([33, 80], 32),
        ([7, 24], 64),
        ([4100, 64], 128),
        // Rows that are no whole words, an odd number of elements.
        ([5, 13], 64),
    ];
    for (shape, blocksize) in shapes {
        let quant_type = if shape[1] == 80 { QuantType::Fp4 } else { QuantType::Nf4 };
        let weight = quantized(quant_type, blocksize, shape);
        // One row and the most that the fused product takes. Burn's product, which takes more, is compiled for each size, which
        // takes seconds on a software driver.
        let rows: &[usize] = if shape == [33, 80] { &[1, 8, 9] } else { &[1, 8] };
        for &rows in rows {
            let products = products(&weight, rows, DType::F32, &device);
            // Burn's product, which takes more rows than eight or rows of no whole words, may use TF32 there, with 11 bits.
            let is_burns = rows > 8 || !shape[1].is_multiple_of(8);
            let tolerance = if is_burns && is_cuda(&device) { 2e-3 } else { 2e-5 };
            assert_close(&products, tolerance, &format!("{shape:?} {quant_type:?} {rows} rows"));
        }
        assert_eq!(
            QuantLinear::new(&weight, None, &device).to_weight().and_then(|weight| weight.table16()),
            Some(weight),
            "{shape:?}"
        );
    }
}

#[test]
fn products_in_half_precision_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    // One unit in the last place of the greatest value: sums are in float32, and rounded once.
    for (dtype, tolerance) in [(DType::F16, 1.0 / 1024.0), (DType::BF16, 1.0 / 128.0)] {
        if !device.supports_dtype(dtype) {
            eprintln!("SKIPPED: {device:?} has no {dtype:?}");
            continue;
        }
        let weight = quantized(QuantType::Nf4, 64, [48, 512]);
        for rows in [1, 4] {
            assert_close(&products(&weight, rows, dtype, &device), tolerance, &format!("{dtype:?} {rows} rows"));
        }
    }
}

/// Tensor cores take these where there are some: sizes with whole and cut-off tiles, rows that several planes share, every number of
/// column tiles, nested scales, long blocks.
#[test]
fn products_of_many_rows_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    // Burn's product, which a device without tensor cores takes, is compiled for each size, which takes seconds on a software driver.
    let all_rows: &[usize] = if is_cuda(&device) { &[1, 3, 8, 9, 17, 64] } else { &[9] };
    for (dtype, tolerance) in [(DType::F16, 1.0 / 1024.0), (DType::BF16, 1.0 / 128.0)] {
        if !device.supports_dtype(dtype) {
            eprintln!("SKIPPED: {device:?} has no {dtype:?}");
            continue;
        }
        let mut cases =
            vec![([64, 256], 64, false), ([33, 4096], 64, true), ([100, 192], 256, false), ([24, 64], 128, true)];
        if is_cuda(&device) {
            // More tiles than an H200 has processors, and rows that the planes of a cube do not have at once.
            cases.extend([([2200, 4416], 64, true), ([4300, 4160], 64, false), ([40, 9216], 64, false)]);
        }
        for (shape, blocksize, is_nested) in cases {
            let weight = quantized(QuantType::Nf4, blocksize, shape);
            let weight = if is_nested { weight.nested() } else { weight };
            for &rows in all_rows {
                let what = format!("{shape:?} {dtype:?} {rows} rows, nested: {is_nested}");
                assert_close(&products(&weight, rows, dtype, &device), tolerance, &what);
                if rows > 3 {
                    continue;
                }
                let fast = products_with(&weight, rows, dtype, Precision::Fast, &device);
                assert_close(&fast, 2.0 * tolerance, &format!("{what}, fast"));
            }
        }
    }
}

fn is_cuda(device: &Device) -> bool {
    format!("{device:?}").to_lowercase().contains("cuda")
}

#[test]
fn gradients_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let weight = quantized(QuantType::Nf4, 64, [24, 64]);
    let gradient = |device: Device| {
        let values: Vec<f32> = (0..3 * 64).map(|i| (i as f32).cos()).collect();
        let device = device.autodiff();
        let x = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([3, 64]).require_grad();
        let y = QuantLinear::new(&weight, None, &device).forward(x.clone());
        let seed = y.clone().detach().tanh();
        let gradients = (y * seed).sum().backward();
        x.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap()
    };
    // Burn's product may use TF32 there, with 11 bits.
    let tolerance = if is_cuda(&device) { 2e-3 } else { 2e-5 };
    assert_close(&[gradient(device), gradient(Device::flex())], tolerance, "gradient");
}

#[test]
fn compiles_the_fused_product_for_every_dtype_and_number_of_rows() {
    let Some(device) = device() else { return };
    let dtypes = || [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype));
    // A row that the planes of a cube have at once, and one that they do not.
    for in_features in [128, 4160] {
        let weight = quantized(QuantType::Nf4, 64, [16, in_features]);
        for weight in [weight.clone(), weight.nested()] {
            let exact = QuantLinear::new(&weight, None, &device);
            for layer in [exact.clone(), exact.with_precision(Precision::Fast)] {
                for (dtype, rows) in dtypes().flat_map(|dtype| [1, 2, 3, 8, 9, 64].map(|rows| (dtype, rows))) {
                    // A kernel that does not compile shows when its result is read.
                    let y = layer.forward(zeros([rows, in_features], dtype, &device)).try_into_data();
                    assert!(y.is_ok(), "{dtype:?}, {rows} rows: {}", y.unwrap_err());
                }
            }
        }
    }
}

fn zeros(shape: [usize; 2], dtype: DType, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::zeros::<f32, _>(shape).convert_dtype(dtype), (device, dtype))
}

#[test]
fn compiles_the_product_with_dense_weights() {
    let Some(device) = device() else { return };
    for dtype in [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)) {
        let y = dense_product(zeros([3, 128], dtype, &device), zeros([16, 128], dtype, &device)).try_into_data();
        assert!(y.is_ok(), "{dtype:?}: {}", y.unwrap_err());
    }
}

#[test]
fn products_with_dense_weights_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let dtypes = [DType::F32, DType::F16, DType::BF16];
    let supported = || dtypes.into_iter().filter(|dtype| device.supports_dtype(*dtype));
    // Rows in vectors, in less, in single numbers; more rows than are read at once; rows for several planes; groups that are not full.
    let cases = [([1, 64], 5), ([3, 132], 9), ([8, 77], 4), ([11, 2048], 3), ([64, 256], 33)];
    for (([rows, in_features], out_features), dtype) in
        cases.into_iter().flat_map(|case| supported().map(move |dtype| (case, dtype)))
    {
        for weight_dtype in supported() {
            let product = |device: &Device| {
                let tensor = |shape: [usize; 2], dtype| {
                    let data = TensorData::new(values(shape[0] * shape[1]), shape).convert_dtype(dtype);
                    Tensor::<2>::from_data(data, (device, dtype))
                };
                let y = dense_product(
                    tensor([rows, in_features], dtype),
                    tensor([out_features, in_features], weight_dtype),
                );
                y.into_data().convert::<f32>().try_into_vec::<f32>().unwrap()
            };
            // One unit in the last place of the greatest value.
            let tolerance = match dtype {
                DType::F16 => 1.0 / 1024.0,
                DType::BF16 => 1.0 / 128.0,
                _ => 2e-5,
            };
            let what = format!("{rows} rows, {out_features} x {in_features}, {dtype:?} by {weight_dtype:?}");
            assert_close(&[product(&device), product(&Device::flex())], tolerance, &what);
        }
    }
}

/// Values of every size, with blocks of zeros.
fn values(elements: usize) -> Vec<f32> {
    (0..elements)
        .map(|i| if i / 64 % 7 == 3 { 0.0 } else { (i as f32 * 1.7).sin() * (1 + i / 97 % 5) as f32 })
        .collect()
}

#[test]
fn codes_and_scales_are_those_of_the_cpu_bit_for_bit() {
    let Some(device) = device() else { return };
    let cases = [([64, 64], 64), ([8, 1000], 32), ([3, 4096], 4096), ([7, 11], 64), ([5, 50], 128), ([1, 2], 32)];
    for (shape, blocksize) in cases {
        for dtype in [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)) {
            for quant_type in [QuantType::Nf4, QuantType::Fp4] {
                let (elements, blocksize) = (shape[0] * shape[1], Blocksize::new(blocksize).unwrap());
                let data = TensorData::new(values(elements), [elements]).convert_dtype(dtype);
                let rounded = data.clone().convert::<f32>().try_into_vec::<f32>().unwrap();
                let expected = Quantized4bit::quantize(quant_type, blocksize, shape, Elements::F32(&rounded)).unwrap();
                let kind = WeightDtype::of(dtype).unwrap();
                let mut quantizer = DeviceQuantizer::new(quant_type, blocksize, shape, kind, &device).unwrap();
                // Two windows, if there is a whole block.
                let cut = (elements / 2).next_multiple_of(blocksize.get()).min(elements);
                for window in [0..cut, cut..elements] {
                    let window = TensorData::new(rounded[window.clone()].to_vec(), [window.len()]);
                    if window.num_elements() > 0 {
                        quantizer.fill(Tensor::from_data(window.convert_dtype(dtype), (&device, dtype))).unwrap();
                    }
                }
                let weight = quantizer.finish().unwrap();
                weight.check().unwrap();
                let found = weight.to_host().unwrap();
                let what = format!("{shape:?} {blocksize:?} {dtype:?} {quant_type:?}");
                assert_eq!(found.packed(), expected.packed(), "{what}");
                assert_eq!(found.absmax(), expected.absmax(), "{what}");
            }
        }
    }
}

#[test]
fn elements_without_a_code_are_found() {
    let Some(device) = device() else { return };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = values(64 * 64);
        values[1000] = bad;
        let weight = Tensor::<2>::from_data(TensorData::new(values, [64, 64]), (&device, DType::F32));
        let error = QuantLinear::quantize(weight, Scheme::nf4(), None).unwrap_err();
        assert!(matches!(error, QuantError::NonFiniteBlock { first: 960, last: 1023 }), "{bad}: {error}");
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let Some(device) = device() else { return };
    let blocksize = Blocksize::default();
    let mut quantizer =
        DeviceQuantizer::new(QuantType::Nf4, blocksize, [4, 64], WeightDtype::Float32, &device).unwrap();
    let window = |len: usize, dtype| {
        Tensor::<1>::from_data(TensorData::zeros::<f32, _>([len]).convert_dtype(dtype), (&device, dtype))
    };
    assert!(matches!(quantizer.fill(window(65, DType::F32)), Err(QuantError::UnalignedWindow { .. })));
    assert!(matches!(quantizer.fill(window(257, DType::F32)), Err(QuantError::WindowOutOfRange { .. })));
    assert!(matches!(quantizer.fill(window(64, DType::F16)), Err(QuantError::MixedDtypes { .. })));
    quantizer.fill(window(64, DType::F32)).unwrap();
    assert!(matches!(quantizer.finish(), Err(QuantError::IncompleteWeight { filled: 64, elements: 256 })));
}

#[test]
fn dequantised_weights_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    for (quant_type, shape) in [(QuantType::Nf4, [16, 96]), (QuantType::Fp4, [5, 13])] {
        let weight = quantized(quant_type, 32, shape);
        for dtype in [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)) {
            let found = QuantLinear::new(&weight, None, &device).dequantize(dtype.into()).try_into_data().unwrap();
            let expected = TensorData::new(weight.dequantize::<f32>(), shape).convert_dtype(dtype);
            assert_eq!(found, expected, "{quant_type:?} {dtype:?}");
        }
    }
}

#[test]
fn nested_scales_stay_nested_and_are_decoded_in_the_kernels() {
    let Some(device) = device() else { return };
    for shape in [[48, 512], [9, 72]] {
        let weight = quantized(QuantType::Nf4, 32, shape).nested();
        let layer = QuantLinear::new(&weight, None, &device);
        assert!(layer.scale_codes.is_some());
        assert_eq!(layer.to_weight().and_then(|weight| weight.table16()), Some(weight.clone()));
        for rows in [1, 3] {
            assert_close(&products(&weight, rows, DType::F32, &device), 2e-5, &format!("nested {shape:?} {rows} rows"));
        }
        let dense = layer.dequantize(burn::tensor::FloatDType::F32).try_into_data().unwrap();
        let dense = dense.try_into_vec::<f32>().unwrap();
        assert_close(&[dense, weight.dequantize::<f32>()], 1e-6, "nested weight");
    }
}

/// Blocks of one magnitude: scales are all alike, so their own scales are zero, and the offset says everything.
#[test]
fn nested_scales_that_are_all_alike_are_their_offset() {
    let Some(device) = device() else { return };
    let shape = [40, 320];
    let values: Vec<f32> = (0..40 * 320).map(|i| if i * 7 % 11 < 5 { 3.0 } else { -3.0 }).collect();
    let weight = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), shape, Elements::F32(&values));
    let weight = weight.unwrap().nested();
    for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F16, 1.0 / 1024.0), (DType::BF16, 1.0 / 128.0)] {
        if device.supports_dtype(dtype) {
            let products = products(&weight, 3, dtype, &device);
            assert!(products[1].iter().any(|value| *value != 0.0));
            assert_close(&products, tolerance, &format!("{dtype:?}"));
        }
    }
}

#[test]
fn double_quantisation_on_the_device_is_that_of_the_host() {
    let Some(device) = device() else { return };
    let (shape, blocksize) = ([64, 640], Blocksize::default());
    let values = values(64 * 640);
    let expected = Quantized4bit::quantize(QuantType::Nf4, blocksize, shape, Elements::F32(&values)).unwrap().nested();
    let mut quantizer = DeviceQuantizer::new(QuantType::Nf4, blocksize, shape, WeightDtype::Float32, &device).unwrap();
    quantizer.fill(Tensor::from_data(TensorData::new(values, [64 * 640]), (&device, DType::F32))).unwrap();
    let weight = quantizer.finish().unwrap();
    let nested = Absmax::Nested(NestedAbsmax::quantize(&weight.scales().unwrap()));
    let layer = QuantLinear::of_device(DeviceWeight::from_table(weight.clone(), Some(nested)).unwrap(), None);
    assert_eq!(layer.to_weight().and_then(|weight| weight.table16()), Some(expected));
    let error = DeviceWeight::from_table(weight, Some(Absmax::Plain(vec![1.0; 3]))).unwrap_err();
    assert!(matches!(error, QuantError::LengthMismatch { .. }), "{error}");
}

#[test]
fn compiles_the_kernels_of_weights_for_every_dtype() {
    let Some(device) = device() else { return };
    for dtype in [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)) {
        for (quant_type, blocksize) in [(QuantType::Nf4, 64), (QuantType::Fp4, 64), (QuantType::Nf4, 4096)] {
            let data = TensorData::new(values(4096), [4096]).convert_dtype(dtype);
            let (kind, blocksize) = (WeightDtype::of(dtype).unwrap(), Blocksize::new(blocksize).unwrap());
            let mut quantizer = DeviceQuantizer::new(quant_type, blocksize, [64, 64], kind, &device).unwrap();
            quantizer.fill(Tensor::from_data(data, (&device, dtype))).unwrap();
            for double_quant in [false, true] {
                // A kernel that does not compile shows when its result is read.
                let weight = quantizer.clone().finish().unwrap();
                let nested = double_quant.then(|| Absmax::Nested(NestedAbsmax::quantize(&weight.scales().unwrap())));
                let weight = DeviceWeight::from_table(weight, nested);
                let layer = weight.map(|weight| QuantLinear::of_device(weight, None));
                let weight = layer.map(|layer| layer.dequantize(dtype.into()).try_into_data());
                assert!(weight.as_ref().is_ok_and(|data| data.is_ok()), "{dtype:?} {quant_type:?}: {weight:?}");
            }
        }
    }
}

#[test]
fn the_self_test_runs_every_kernel_in_every_dtype_of_the_device() {
    let Some(device) = device() else { return };
    let checks = self_test::run(&device);
    assert_eq!(checks.len(), 3 * Kernel::ALL.len());
    for check in checks {
        eprintln!("{} {}: {:?}", check.kernel, check.dtype, check.outcome);
        let has = match check.dtype {
            WeightDtype::Float16 => device.supports_dtype(DType::F16),
            WeightDtype::BFloat16 => device.supports_dtype(DType::BF16),
            _ => true,
        };
        match check.outcome {
            Outcome::Works { .. } => assert!(has, "{check:?}"),
            Outcome::Skipped { .. } => assert!(!has, "{check:?}"),
            _ => panic!("{check:?}"),
        }
    }
}
