//! Attention on a GPU, a software driver included, against the CPU.

use automodel::{Device, DeviceError, DeviceName};
use automodel_attention::{AttentionError, AttentionMask, AttentionParams, Positions, SdpaBackend, attention};
use automodel_test_support::gpu::found_or_skipped;
use burn::tensor::{DType, Tensor, TensorData};

const BATCH: usize = 2;
const HEADS: usize = 8;
const HEAD_DIM: usize = 16;
/// More keys than one tile of the online softmax holds, if it has all the queries that a tile can have.
const KEYS: usize = 600;

/// The first GPU, and how much less exact its float32 products may be: CUDA may take TF32 tensor cores, with 11 bits.
fn device() -> Option<(Device, f32)> {
    let kinds = [(DeviceName::Cuda(0), 200.0), (DeviceName::Wgpu, 1.0)];
    let found = kinds.into_iter().find_map(|(name, share)| match name.open() {
        Ok(device) => Some((device, share)),
        Err(DeviceError::Absent { .. } | DeviceError::NotBuilt { .. }) => None,
        Err(error) => panic!("{error}"),
    });
    found_or_skipped(found, "attention was not run on one")
}

/// Values between -2 and 2 without a pattern that heads share, on the CPU, rounded to `dtype`.
fn values<const D: usize>(shape: [usize; D], seed: f32, dtype: DType) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| 2.0 * (i as f32 * 0.7391 + seed).sin()).collect();
    Tensor::<D>::from_data(TensorData::new(values, shape), &Device::flex()).cast(dtype)
}

/// One call: its numbers of heads and queries, and the settings of the layer.
#[derive(Clone, Debug)]
struct Case {
    kv_heads: usize,
    queries: usize,
    softcap: Option<f64>,
    mask: AttentionMask,
    sinks: bool,
    padding: Vec<usize>,
}

impl Case {
    fn grouped(kv_heads: usize, queries: usize) -> Self {
        Self { kv_heads, queries, softcap: None, mask: AttentionMask::Full, sinks: false, padding: Vec::new() }
    }

    /// The output as float32 on the host; the inputs are the same numbers on every device.
    fn run(&self, backend: SdpaBackend, dtype: DType, compute: DType, device: &Device) -> Vec<f32> {
        let input = |heads, length, seed| {
            let tensor = values([BATCH, heads, length, HEAD_DIM], seed, dtype);
            tensor.cast(compute).to_device(device)
        };
        let sinks = self.sinks.then(|| values([HEADS], 0.3, DType::F32).to_device(device));
        let params = AttentionParams { scale: 0.25, softcap: self.softcap, mask: self.mask, alibi: None };
        let query_start = KEYS - self.queries;
        let positions = Positions { query_start, key_start: 0, padding: self.padding.clone() };
        let (q, k) = (input(HEADS, self.queries, 0.1), input(self.kv_heads, KEYS, 1.2));
        let v = input(self.kv_heads, KEYS, 2.5);
        let output = attention(backend, q, k, v, sinks, &params, &positions).unwrap();
        assert_eq!(output.dims(), [BATCH, HEADS, self.queries, HEAD_DIM]);
        assert_eq!(output.dtype(), compute);
        output.cast(DType::F32).into_data().try_into_vec().unwrap()
    }

    fn check(&self, (device, share): &(Device, f32)) {
        for (dtype, tolerance) in [(DType::F32, share * 1e-4), (DType::F16, 2e-3)] {
            // The CPU computes in float32 from the rounded inputs, so only the output's rounding differs.
            let expected = self.run(SdpaBackend::Math, dtype, DType::F32, &Device::flex());
            for backend in [SdpaBackend::EfficientAttention, SdpaBackend::Math] {
                let found = self.run(backend, dtype, dtype, device);
                for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                    assert!((a - b).abs() <= tolerance, "{a}, not {b}, at {i}: {backend}, {dtype:?}, {self:?}");
                }
            }
        }
    }
}

#[test]
fn grouped_heads_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    for kv_heads in [1, 2, HEADS] {
        for queries in [1, 130] {
            Case::grouped(kv_heads, queries).check(&device);
        }
    }
}

#[test]
fn softcap_window_sinks_and_padding_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    for queries in [1, 130] {
        let plain = Case::grouped(2, queries);
        let all = Case {
            softcap: Some(5.0),
            mask: AttentionMask::Sliding { window: 550 },
            sinks: true,
            padding: vec![0, 70],
            ..plain.clone()
        };
        Case { padding: vec![0, 70], ..plain.clone() }.check(&device);
        Case { sinks: true, ..plain }.check(&device);
        all.check(&device);
    }
}

/// A product of mixed dtypes is wrong on some devices without an error.
#[test]
fn mixed_dtypes_are_refused() {
    let Some((device, _)) = device() else { return };
    let input = |dtype| values([1, 2, 3, HEAD_DIM], 0.1, dtype).to_device(&device);
    let params = AttentionParams::new(0.25, AttentionMask::Full);
    let call = |k, v| {
        let q = input(DType::F32);
        let backend = SdpaBackend::EfficientAttention;
        attention(backend, q, input(k), input(v), None, &params, &Positions::default()).unwrap_err()
    };
    for (k, v, named) in [(DType::F16, DType::F32, "keys"), (DType::F32, DType::F16, "values")] {
        let error = call(k, v);
        assert!(matches!(error, AttentionError::Dtype { tensor, .. } if tensor == named), "{error}");
    }
}
