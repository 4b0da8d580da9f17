//! Kernels of this crate on whatever device a build with `cuda` or `wgpu` finds, against the CPU; a software Vulkan driver will do.

mod moe;

use automodel_models::Norm;
use automodel_registry::spec::{NormKind, NormSpec};
use automodel_test_support::first_gpu;
use burn::module::{Param, ParamId};
use burn::tensor::{DType, Device, Tensor, TensorData};

const KINDS: [NormKind; 9] = [
    NormKind::Rms,
    NormKind::RmsProductInFloat32,
    NormKind::RmsOneOffset,
    NormKind::RmsWithoutWeight,
    NormKind::LayerNorm { bias: false },
    NormKind::LayerNorm { bias: true },
    NormKind::LayerNormInFloat32,
    NormKind::LayerNormOneOffset,
    NormKind::LayerNormWithoutParameters,
];

/// The first GPU, a software driver included.
fn device() -> Option<Device> {
    first_gpu!("the GPU kernels were not run")
}

fn values<const D: usize>(shape: [usize; D], seed: f32, dtype: DType, device: &Device) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| 0.5 + 2.0 * (i as f32 * 0.7391 + seed).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

/// The result of a norm of a kind for `x` of a shape, whose last axes are those of the weight.
fn result<const W: usize, const D: usize>(
    kind: NormKind,
    shape: [usize; D],
    [dtype, weight_dtype]: [DType; 2],
    device: &Device,
) -> Vec<f32> {
    let weights: [usize; W] = shape[D - W..].try_into().unwrap();
    let mut norm = Norm::<W>::new(NormSpec { kind, eps: 1e-3 }, weights, device);
    let value = |seed| Param::initialized(ParamId::new(), values(weights, seed, weight_dtype, device));
    norm.weight = norm.weight.map(|_| value(1.0));
    norm.bias = norm.bias.map(|_| value(2.0));
    let y = norm.forward(values(shape, 0.0, dtype, device));
    assert_eq!((y.dims(), y.dtype()), (shape, dtype));
    y.try_into_data().unwrap().convert::<f32>().try_into_vec().unwrap()
}

fn dtypes(device: &Device) -> Vec<DType> {
    [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)).collect()
}

fn check(found: &[f32], expected: &[f32], dtype: DType, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    // Two units in the last place: of halves, the number may be rounded before the product with the weight, and after it.
    let tolerance = match dtype {
        DType::F16 => 1.0 / 512.0,
        DType::BF16 => 1.0 / 64.0,
        _ => 1e-5,
    };
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance * (1.0 + expected.abs()), "{what}: {found} for {expected} at {place}");
    }
}

#[test]
fn norms_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    let cpu = Device::flex();
    for kind in KINDS {
        for dtype in dtypes(&device) {
            for weight_dtype in [dtype, DType::F32] {
                let dtypes = [dtype, weight_dtype];
                // One number, rows in vectors and not, rows longer than the units of a cube.
                for shape in [[1, 3, 1], [2, 5, 64], [1, 1, 77], [1, 2, 4100]] {
                    let what = format!("{kind:?} of {shape:?} in {dtypes:?}");
                    let [found, expected] = [&device, &cpu].map(|device| result::<1, 3>(kind, shape, dtypes, device));
                    check(&found, &expected, dtype, &what);
                }
                let shape = [2, 3, 4, 16];
                let what = format!("{kind:?} of {shape:?} in {dtypes:?}, with a weight for each head");
                let [found, expected] = [&device, &cpu].map(|device| result::<2, 4>(kind, shape, dtypes, device));
                check(&found, &expected, dtype, &what);
            }
        }
    }
}

#[test]
fn compiles_the_norms() {
    let Some(device) = device() else { return };
    for kind in KINDS {
        for dtype in dtypes(&device) {
            // Panics where a kernel does not compile.
            result::<1, 3>(kind, [1, 2, 64], [dtype, dtype], &device);
        }
    }
}
