//! The kernels for GPUs against those for the CPU, on whatever device a build with `cuda` or `wgpu` finds; a software Vulkan driver
//! will do.

use automodel_quant::{Blocksize, Elements, Linear4bit, QuantType, Quantized4bit};
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
    let cpu = Device::flex();
    let x = Tensor::<2>::random([rows, weight.shape()[1]], Distribution::Uniform(-1.0, 1.0), &cpu).cast(dtype);
    [device, &cpu].map(|device| {
        let x = Tensor::<2>::from_data(x.clone().into_data(), (device, dtype));
        let y = Linear4bit::new(weight, None, device).forward(x);
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
            assert_close(&products, 2e-5, &format!("{shape:?} {quant_type:?} {rows} rows"));
        }
        assert_eq!(Linear4bit::new(&weight, None, &device).to_quantized(), Some(weight), "{shape:?}");
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

#[test]
fn gradients_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let weight = quantized(QuantType::Nf4, 64, [24, 64]);
    let gradient = |device: Device| {
        let values: Vec<f32> = (0..3 * 64).map(|i| (i as f32).cos()).collect();
        let device = device.autodiff();
        let x = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([3, 64]).require_grad();
        let y = Linear4bit::new(&weight, None, &device).forward(x.clone());
        let seed = y.clone().detach().tanh();
        let gradients = (y * seed).sum().backward();
        x.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap()
    };
    assert_close(&[gradient(device), gradient(Device::flex())], 2e-5, "gradient");
}

#[test]
fn the_fused_product_compiles_for_every_dtype_and_number_of_rows() {
    let Some(device) = device() else { return };
    let weight = quantized(QuantType::Nf4, 64, [16, 128]);
    let layer = Linear4bit::new(&weight, None, &device);
    for dtype in [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)) {
        for rows in 1..=8 {
            let x =
                Tensor::<2>::from_data(TensorData::zeros::<f32, _>([rows, 128]).convert_dtype(dtype), (&device, dtype));
            // A kernel that does not compile shows when its result is read.
            let y = layer.forward(x).try_into_data();
            assert!(y.is_ok(), "{dtype:?}, {rows} rows: {}", y.unwrap_err());
        }
    }
}
