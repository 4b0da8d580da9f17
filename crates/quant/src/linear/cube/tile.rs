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

use super::kernels::{self, Operand, STEP, TILE_COLUMNS, TilePlan};
use super::launch::{Weight, empty};
use crate::{Precision, linear::crossover::Crossover};

/// Units of a cube, of which each processor of the device has one: the table takes 64 KiB of a processor's memory, and time to fill.
const UNITS: usize = 512;
/// Processors where the device does not say.
const USUAL_PROCESSORS: usize = 64;
/// Steps under way together and planes that share rows, best first: what a unit loads for a step is 16 bytes.
const SHARES: [(usize, usize); 10] = [(4, 16), (4, 8), (2, 16), (4, 4), (2, 8), (4, 2), (2, 4), (4, 1), (2, 1), (1, 1)];

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
        let column_tiles = rows.div_ceil(TILE_COLUMNS).next_power_of_two();
        let whole = in_features / STEP;
        let (steps, splits) = SHARES.into_iter().find(|(steps, splits)| whole.is_multiple_of(steps * splits))?;
        let terms = match precision {
            Precision::Exact => 2,
            Precision::Fast => 1,
        };
        let quant_type = self.layout().quant_type;
        let plan = TilePlan { quant_type, scales, operand, terms, column_tiles, steps, splits, units: UNITS };
        (plan.shared_bytes() <= client.properties().hardware.max_shared_memory_size).then_some(plan)
    }

    /// `x W^T` for contiguous rows of activations `[rows, in]` of the plan.
    pub fn tile(&self, x: CubeTensor, plan: TilePlan) -> CubeTensor {
        let client = self.client().clone();
        let ([out_features, in_features], rows) = (self.layout().shape, x.shape()[0]);
        assert!(x.shape()[1] == in_features && rows <= plan.column_tiles * TILE_COLUMNS, "activations for {plan:?}");
        let dtype = x.dtype;
        let out = empty(x.clone(), [rows, out_features], rows * out_features, dtype);
        let is_plain = !plan.scales.nested && plan.scales.blocksize == STEP;
        let processors = client.properties().hardware.num_streaming_multiprocessors;
        let processors = processors.map_or(USUAL_PROCESSORS, |count| count as usize);
        let cubes = out_features.div_ceil(plan.rows_of_cube()).min(processors);
        // SAFETY: as `Weight::new`, `tile_plan` and the assertion checked, there are `out_features` rows of whole steps with their
        // scales, and `rows` rows of activations, two in a word; rows beyond the last are read as the last and not written.
        unsafe {
            kernels::tiles::launch_unchecked(
                &client,
                CubeCount::new_1d(cubes as u32),
                CubeDim::new_1d(plan.units as u32),
                if is_plain { plan.steps } else { 1 },
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
