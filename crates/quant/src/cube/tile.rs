//! Launching the product on tensor cores.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{
    client::Client,
    ir::{ElemType, FloatKind, features::MmaConfig},
    prelude::*,
};

use super::kernels::{self, Operand, PLANE, STEP, STEPS, TILE_COLUMNS, TILE_ROWS, TilePlan};
use super::launch::{Weight, empty};
use crate::{Crossover, Precision};

/// Units of a cube, of which each processor of the device has one: the table takes up to 64 KiB of a processor's memory, and time to
/// fill.
const UNITS: usize = 512;
/// Processors where the device does not say.
const USUAL_PROCESSORS: usize = 64;
/// Planes that may share rows, the preferred first: more planes read more of a row concurrently.
const SPLITS: [usize; 3] = [16, 8, 4];
/// Places for codes of each plane, the preferred first.
const STAGES: [usize; 2] = [3, 2];

impl Weight {
    /// How tensor cores take `rows` of activations, if they do: half precision, steps within one block.
    pub fn tile_plan(&self, rows: usize, dtype: DType, precision: Precision) -> Option<TilePlan> {
        let client = self.client();
        let operand = operand(client, dtype)?;
        let scales = self.scale_plan();
        let [_, in_features] = self.layout().shape;
        let most = client.properties().hardware.max_units_per_cube as usize;
        if rows == 0
            || rows > Crossover::current().tile
            || !in_features.is_multiple_of(STEP)
            || !scales.blocksize.is_multiple_of(STEP)
            || most < UNITS
        {
            return None;
        }
        let plan = TilePlan {
            decoder: self.decoder(),
            scales,
            operand,
            terms: match precision {
                Precision::Exact => 2,
                Precision::Fast => 1,
            },
            column_tiles: rows.div_ceil(TILE_COLUMNS).next_power_of_two(),
            splits: self.splits(),
            has_whole_rows: false,
            stages: 0,
            units: UNITS,
        };
        let has_whole_rows = plan.column_tiles == 1 && in_features <= plan.chunk();
        let room = client.properties().hardware.max_shared_memory_size;
        let plans = STAGES.into_iter().map(|stages| TilePlan { has_whole_rows, stages, ..plan });
        plans.into_iter().find(|plan| plan.shared_bytes() <= room)
    }

    /// How many planes share rows: so that the processor with the most to do has the least.
    fn splits(&self) -> usize {
        let [out_features, in_features] = self.layout().shape;
        let turns = |splits: usize| {
            let rows = UNITS / PLANE / splits * TILE_ROWS;
            out_features.div_ceil(rows).div_ceil(self.processors()) * in_features.div_ceil(splits * STEPS * STEP)
        };
        // The first of those with the least.
        SPLITS.into_iter().min_by_key(|splits| turns(*splits)).unwrap_or(SPLITS[0])
    }

    fn processors(&self) -> usize {
        let processors = self.client().properties().hardware.num_streaming_multiprocessors;
        processors.map_or(USUAL_PROCESSORS, |count| count as usize)
    }

    /// `x W^T` for contiguous rows of activations `[rows, in]` of the plan.
    pub fn tile(&self, x: CubeTensor, plan: TilePlan) -> CubeTensor {
        let client = self.client().clone();
        let ([out_features, in_features], rows) = (self.layout().shape, x.shape()[0]);
        assert!(x.shape()[1] == in_features && rows <= plan.column_tiles * TILE_COLUMNS, "activations for {plan:?}");
        let dtype = x.dtype;
        let out = empty(x.clone(), [rows, out_features], rows * out_features, dtype);
        let cubes = out_features.div_ceil(plan.rows_of_cube()).min(self.processors());
        // SAFETY: as `Weight::new`, `tile_plan` and the assertion checked, there are `out_features` rows of whole steps with their
        // scales, and `rows` rows of activations, two in a word; rows beyond the last are read as the last and not written.
        unsafe {
            kernels::tiles::launch_unchecked(
                &client,
                CubeCount::new_1d(cubes as u32),
                CubeDim::new_1d(plan.units as u32),
                BufferArg::from_raw_parts(x.handle.clone(), rows * in_features / 2),
                self.codes(),
                self.absmax(),
                self.absmax_codes(),
                out.clone().into_buffer_arg(),
                rows as u32,
                in_features as u32,
                out_features as u32,
                plan,
                dtype_to_elem_type(dtype),
            );
        }
        out
    }
}

/// What tensor cores multiply for activations of a dtype, if the device has such.
fn operand(client: &Client, dtype: DType) -> Option<Operand> {
    let (operand, kind) = match dtype {
        DType::F16 => (Operand::F16, FloatKind::F16),
        DType::BF16 => (Operand::Bf16, FloatKind::BF16),
        _ => return None,
    };
    let of = ElemType::Float;
    let config = MmaConfig { a_type: of(kind), b_type: of(kind), cd_type: of(FloatKind::F32), m: 16, n: 8, k: 16 };
    client.features().matmul.mma.contains(&config).then_some(operand)
}
