//! The ways that Burn's kernels multiply matrices, beside the one that they take where nothing measures which is the fastest.

use automodel::Device;
use burn::backend::{DispatchDevice, cubecl::dtype_to_storage_type, ops::FloatTensorOps};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubek::matmul::{
    definition::{MatmulElems, MatmulGlobalElems},
    launch::launch_ref,
    multi_level::{Strategy as MultiLevel, components::tile::TileMatmulKind, routines::batch::simple::SimpleArgs},
    routine::BlueprintStrategy,
    strategy::Strategy,
};
use cubek::std::InputBinding;
use half::bf16;
use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use crate::shapes::Layer;

const LAUNCHES: usize = 20;
/// Products of a sample of the result that the ways are compared in.
const COMPARED: usize = 4096;

/// A way to multiply, by its name.
fn ways() -> Vec<(&'static str, Strategy)> {
    let rows = |tile_matmul| BlueprintStrategy::Inferred(SimpleArgs { multi_rows: true, tile_matmul });
    let ways = [
        ("simple, cyclic, cmma, many rows", MultiLevel::SimpleCyclicCmma(rows(TileMatmulKind::Cmma))),
        ("simple, cyclic, mma", MultiLevel::SimpleCyclicMma(Default::default())),
        ("simple, cyclic, mma, many rows", MultiLevel::SimpleCyclicMma(rows(TileMatmulKind::Mma))),
        ("simple, TMA, mma", MultiLevel::SimpleTmaMma(Default::default())),
        ("double, cyclic, cmma", MultiLevel::DoubleCyclicCmma(Default::default())),
        ("double, cyclic, mma", MultiLevel::DoubleCyclicMma(Default::default())),
        ("double, tilewise, mma", MultiLevel::DoubleTilewiseMma(Default::default())),
        ("double, asynchronous cyclic, mma", MultiLevel::DoubleAsyncCyclicMma(Default::default())),
        ("double, TMA, mma", MultiLevel::DoubleTmaMma(Default::default())),
        ("ordered double, mma", MultiLevel::OrderedDoubleMma(Default::default())),
        ("specialised, cyclic, mma", MultiLevel::SpecializedCyclicMma(Default::default())),
        ("specialised, TMA, mma", MultiLevel::SpecializedTmaMma(Default::default())),
    ];
    let ways = ways.map(|(name, way)| (name, Strategy::MultiLevel(way)));
    [("as it is", Strategy::Auto)].into_iter().chain(ways).collect()
}

/// Times `x W^T` of a layer for a number of rows of bfloat16, each way, and prints a row of a table for it.
pub fn measure(device: &Device, layer: Layer, rows: usize) -> Result<(), Box<dyn Error>> {
    let (out_features, in_features) = (layer.out_features, layer.in_features);
    let problem = Problem::new(device, rows, out_features, in_features)?;
    let mut expected: Option<Vec<f32>> = None;
    for (name, way) in ways() {
        // Some ways panic instead of saying that they do not serve.
        let timed = catch_unwind(AssertUnwindSafe(|| problem.time(&way))).unwrap_or_else(|_| Err("it panicked".into()));
        let text = match timed {
            Ok((seconds, sample)) => {
                let flops = 2.0 * (rows * out_features * in_features) as f64;
                let difference = expected.as_ref().map_or(0.0, |expected| difference(expected, &sample));
                expected.get_or_insert(sample);
                format!("{:.1} | {:.0} | {difference:.0e}", seconds * 1e6, flops / seconds / 1e12)
            }
            Err(error) => format!("- | - | {}", error.to_string().chars().take(60).collect::<String>()),
        };
        println!("| {out_features} x {in_features} | {rows} | {name} | {text} |");
    }
    Ok(())
}

/// Activations and a weight.
struct Problem {
    x: CubeTensor,
    weight: CubeTensor,
    rows: usize,
    out_features: usize,
}

impl Problem {
    fn new(device: &Device, rows: usize, out_features: usize, in_features: usize) -> Result<Self, Box<dyn Error>> {
        let DispatchDevice::Cube(device) = device.as_dispatch() else { return Err("this device is not a GPU".into()) };
        let client = device.client();
        let tensor = |shape: [usize; 2], seed: u64| {
            let values = random(shape[0] * shape[1], seed);
            let handle = client.create_from_slice(bytemuck::cast_slice(&values));
            CubeTensor::new_contiguous(client.clone(), device.clone(), Shape::from(shape), handle, DType::BF16)
        };
        let (x, weight) = (tensor([rows, in_features], 1), tensor([out_features, in_features], 2));
        Ok(Self { x, weight: CubeBackend::float_transpose(weight), rows, out_features })
    }

    /// Seconds of a product, and some of its results.
    fn time(&self, way: &Strategy) -> Result<(f64, Vec<f32>), Box<dyn Error>> {
        let client = &self.x.client;
        let size = DType::BF16.size();
        let sync = || cubecl::future::block_on(client.sync()).map_err(|error| format!("{error:?}"));
        let out = {
            let handle = client.empty(self.rows * self.out_features * size);
            let shape = Shape::from([self.rows, self.out_features]);
            CubeTensor::new_contiguous(client.clone(), self.x.device.clone(), shape, handle, DType::BF16)
        };
        let dtype = dtype_to_storage_type(DType::BF16);
        let launch = || {
            let mut dtypes = MatmulElems::from_globals(&MatmulGlobalElems { lhs: dtype, rhs: dtype, out: dtype });
            let [lhs, rhs] = [&self.x, &self.weight].map(|tensor| InputBinding::new(tensor.clone().binding(), dtype));
            launch_ref(way, client, lhs, rhs, out.clone().binding(), &mut dtypes).map_err(|error| format!("{error:?}"))
        };
        // The first compiles.
        launch()?;
        sync()?;
        let start = Instant::now();
        for _ in 0..LAUNCHES {
            launch()?;
        }
        sync()?;
        let seconds = start.elapsed().as_secs_f64() / LAUNCHES as f64;
        let bytes = client.read_one(out.handle).map_err(|error| format!("{error:?}"))?;
        let values = bytes.chunks_exact(size).map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32());
        Ok((seconds, values.take(COMPARED).collect()))
    }
}

/// Numbers between a half and one, of either sign.
fn random(count: usize, seed: u64) -> Vec<bf16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bf16::from_bits((state as u16 & 0x807f) | 0x3f00)
        })
        .collect()
}

/// The greatest difference, as a share of the greatest value.
fn difference(expected: &[f32], found: &[f32]) -> f32 {
    let greatest = expected.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()));
    let pairs = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    // NaN counts as the greatest.
    pairs.fold(0.0f32, |most, next| if next <= most { most } else { next }) / greatest
}
