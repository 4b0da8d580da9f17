//! Decode steps on whatever device a build with `cuda` or `wgpu` finds: one token after the other over a static KV cache, compared with the attention of all positions at once on the CPU.

use automodel_attention::step::{StaticKvCache, StepHeads, StepPosition, StepRope, supports};
use automodel_attention::{
    AttentionMask, AttentionParams, KvCache, Positions, Rope, RopeConfig, RopePairing, RopeScaling, SdpaBackend,
    attention,
};
use automodel_test_support::first_gpu;
use burn::tensor::{DType, Device, Tensor, TensorData};

const BATCH: usize = 2;
const HEADS: usize = 8;
const HEAD_DIM: usize = 16;

/// Positions before the steps, steps, and spare capacity: the last chunk of keys is begun.
const BEFORE: usize = 120;
const STEPS: usize = 12;
const CAPACITY: usize = 136;

/// The first GPU, or a software Vulkan driver.
fn device() -> Option<Device> {
    first_gpu!("the GPU kernels were not run")
}

/// Values between -2 and 2 without a pattern that heads share, on the CPU, rounded to `dtype`.
fn values<const D: usize>(shape: [usize; D], seed: f32, dtype: DType) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| 2.0 * (i as f32 * 0.7391 + seed).sin()).collect();
    Tensor::<D>::from_data(TensorData::new(values, shape), &Device::flex()).cast(dtype)
}

/// The parameters of a layer.
#[derive(Clone, Debug)]
struct Case {
    kv_heads: usize,
    rotary_dim: usize,
    pairing: RopePairing,
    params: AttentionParams,
    sinks: bool,
    padding: [usize; BATCH],
}

impl Case {
    fn rope(&self) -> Option<Rope> {
        let config = RopeConfig {
            head_dim: HEAD_DIM,
            rotary_dim: self.rotary_dim,
            theta: 100.0,
            pairing: self.pairing,
            scaling: RopeScaling::Default,
        };
        (self.rotary_dim > 0).then(|| Rope::new(config).unwrap())
    }

    fn projected(&self, heads: usize, seed: f32, dtype: DType) -> Tensor<4> {
        values([BATCH, heads, BEFORE + STEPS, HEAD_DIM], seed, dtype)
    }

    /// The output of the last `STEPS` positions on the CPU, `[BATCH, STEPS, HEADS * HEAD_DIM]`.
    fn expected(&self, dtype: DType) -> Vec<f32> {
        let cpu = Device::flex();
        let (q, k) = (self.projected(HEADS, 0.1, dtype), self.projected(self.kv_heads, 1.2, dtype));
        let v = self.projected(self.kv_heads, 2.5, dtype).cast(DType::F32);
        let positions = Positions { query_start: 0, key_start: 0, padding: self.padding.to_vec() };
        let turned = |x: Tensor<4>| match self.rope() {
            Some(rope) => {
                rope.tables(&positions.rotary(BEFORE + STEPS), BEFORE + STEPS, &cpu).unwrap().apply(x.cast(DType::F32))
            }
            None => x.cast(DType::F32),
        };
        let sinks = self.sinks.then(|| values([HEADS], 0.3, DType::F32));
        let (q, k) = (turned(q), turned(k));
        let y = attention(SdpaBackend::Math, q, k, v, sinks, &self.params, &positions).unwrap();
        let y = y.narrow(2, BEFORE, STEPS).swap_dims(1, 2).reshape([BATCH, STEPS, HEADS * HEAD_DIM]);
        y.into_data().try_into_vec().unwrap()
    }

    /// The same, step by step on a device.
    fn found(&self, dtype: DType, device: &Device) -> Vec<f32> {
        let heads = StepHeads { heads: HEADS, kv_heads: self.kv_heads, head_dim: HEAD_DIM };
        assert!(supports(device, heads, &self.params.mask));
        let on_device = |x: Tensor<4>| x.to_device(device);
        let (q, k) = (self.projected(HEADS, 0.1, dtype), self.projected(self.kv_heads, 1.2, dtype));
        let v = self.projected(self.kv_heads, 2.5, dtype);
        let positions = Positions { query_start: 0, key_start: 0, padding: self.padding.to_vec() };
        let kept = match self.rope() {
            Some(rope) => {
                let rows = positions.rotary(BEFORE);
                rope.tables(&rows, BEFORE, &Device::flex()).unwrap().apply(k.clone().narrow(2, 0, BEFORE))
            }
            None => k.clone().narrow(2, 0, BEFORE),
        };
        let mut past = KvCache::growing();
        past.append(on_device(kept), on_device(v.clone().narrow(2, 0, BEFORE))).unwrap();
        let mut cache = StaticKvCache::of(&past, BEFORE + 2).unwrap().unwrap();
        let tables = self.rope().map(|rope| {
            let rows = [(0..CAPACITY).collect::<Vec<_>>()];
            StepRope::new(&rope.tables(&rows, CAPACITY, device).unwrap())
        });
        let sinks = self.sinks.then(|| values([HEADS], 0.3, DType::F32).to_device(device));
        let mut at = StepPosition::new(BEFORE, &self.padding, device);
        let mut outputs = Vec::new();
        for step in 0..STEPS {
            if step == 2 {
                cache = cache.grown(BEFORE + step, CAPACITY).unwrap();
            }
            at.set(BEFORE + step);
            let row = |x: &Tensor<4>| {
                let [_, heads, _, _] = x.dims();
                on_device(x.clone().narrow(2, BEFORE + step, 1).reshape([BATCH, heads, 1, HEAD_DIM]))
                    .reshape([BATCH, heads * HEAD_DIM])
            };
            let y = cache.attend(row(&q), row(&k), row(&v), tables.as_ref(), sinks.clone(), &self.params, &at);
            outputs.push(y.unwrap().cast(DType::F32).reshape([BATCH, 1, HEADS * HEAD_DIM]));
        }
        Tensor::cat(outputs, 1).try_into_data().unwrap().try_into_vec().unwrap()
    }

    fn check(&self, device: &Device) {
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F16, 4e-3)] {
            let (expected, found) = (self.expected(dtype), self.found(dtype, device));
            assert_eq!(expected.len(), found.len());
            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                assert!((a - b).abs() <= tolerance, "{a}, not {b}, at {i}: {dtype:?}, {self:?}");
            }
        }
    }
}

#[test]
fn steps_are_the_attention_of_the_cpu() {
    let Some(device) = device() else { return };
    let params = AttentionParams::new(0.25, AttentionMask::Full);
    let plain = Case {
        kv_heads: 2,
        rotary_dim: HEAD_DIM,
        pairing: RopePairing::HalfSplit,
        params,
        sinks: false,
        padding: [0; BATCH],
    };
    plain.check(&device);
    Case { kv_heads: HEADS, rotary_dim: 0, padding: [0, 30], ..plain.clone() }.check(&device);
    Case {
        kv_heads: 1,
        rotary_dim: HEAD_DIM / 2,
        pairing: RopePairing::Interleaved,
        params: AttentionParams { softcap: Some(5.0), mask: AttentionMask::Sliding { window: 40 }, ..params },
        sinks: true,
        padding: [100, 0],
    }
    .check(&device);
}

#[test]
fn compiles_the_kernels_of_steps() {
    let Some(device) = device() else { return };
    let params =
        AttentionParams { scale: 0.25, softcap: Some(2.0), mask: AttentionMask::Sliding { window: 9 }, alibi: None };
    for dtype in [DType::F32, DType::F16, DType::BF16].into_iter().filter(|dtype| device.supports_dtype(*dtype)) {
        for pairing in [RopePairing::HalfSplit, RopePairing::Interleaved] {
            let case = Case { kv_heads: 2, rotary_dim: 8, pairing, params, sinks: true, padding: [0; BATCH] };
            // A kernel that does not compile shows when its result is read.
            assert_eq!(case.found(dtype, &device).len(), BATCH * STEPS * HEADS * HEAD_DIM);
        }
    }
}

/// The position in device memory may be anything.
#[test]
fn positions_that_are_none_lead_nowhere_else() {
    let Some(device) = device() else { return };
    let width = |heads| Tensor::<2>::ones([1, heads * HEAD_DIM], &device);
    let kept = Tensor::<4>::ones([1, 2, 3, HEAD_DIM], &device);
    let mut past = KvCache::growing();
    past.append(kept.clone(), kept).unwrap();
    let params = AttentionParams::new(0.25, AttentionMask::Full);
    for (position, padding) in [(1_000_000, 0), (usize::MAX, 0), (3, 9)] {
        let mut cache = StaticKvCache::of(&past, 5).unwrap().unwrap();
        let mut at = StepPosition::new(0, &[padding], &device);
        at.set(position);
        let y = cache.attend(width(HEADS), width(2), width(2), None, None, &params, &at).unwrap();
        let y: Vec<f32> = y.try_into_data().unwrap().try_into_vec().unwrap();
        // Values are ones, and zeros where nothing was written yet: a mean of them and of nothing else.
        assert!(y.iter().all(|y| (0.0..=1.0001).contains(y)), "{position}, {padding}: {y:?}");
    }
    assert!(StaticKvCache::of(&past, usize::MAX / 2).is_err());
}
