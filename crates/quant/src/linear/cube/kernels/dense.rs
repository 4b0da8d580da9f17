//! A product of a dense weight with few rows of activations.

use cubecl::prelude::*;

use super::{RowUnits, add_units};

/// How a product with a dense weight is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct DensePlan {
    /// Rows of activations.
    pub rows: usize,
    /// Neighbouring rows of the weight that the same units compute, so that activations are read once for all.
    pub together: usize,
    /// Who computes them.
    pub units: RowUnits,
}

/// `plan.rows` rows of activations, from `first_row` on, times a weight of perhaps another type, whose rows are `weight_stride` numbers
/// apart. Every weight is read once. Sums are in float32.
#[cube(launch_unchecked)]
pub(in super::super) fn few_rows<F: Float, W: Float, V: Size>(
    x: &[Vector<F, V>],
    weight: &[Vector<W, V>],
    out: &mut [F],
    first_row: u32,
    in_features: u32,
    out_features: u32,
    weight_stride: u32,
    #[comptime] plan: DensePlan,
    #[define(F)] _dtype: ElemType,
    #[define(W)] _weight_dtype: ElemType,
) {
    let unit = UNIT_POS_X as usize;
    let (in_features, out_features, first_row) = (in_features as usize, out_features as usize, first_row as usize);
    let width = V::value().comptime();
    let lane = unit % plan.units.per_row;
    let group = CUBE_POS * comptime!(plan.units.rows()) + unit / plan.units.per_row;
    let first = group * plan.together;
    let (vectors, stride) = (in_features / width, weight_stride as usize / width);

    let mut sums = Array::<f32>::new(comptime!(plan.rows * plan.together));
    #[unroll]
    for i in 0..comptime!(plan.rows * plan.together) {
        sums[i] = 0.0f32;
    }
    let mut at = lane;
    while at < vectors {
        let mut weights = Array::<Vector<W, V>>::new(plan.together);
        #[unroll]
        for r in 0..plan.together {
            // Rows beyond the last are computed as the last, and not written.
            let row = select(first + r < out_features, first + r, out_features - 1);
            weights[r] = weight[row * stride + at];
        }
        #[unroll]
        for m in 0..plan.rows {
            let activations = x[(first_row + m) * vectors + at];
            #[unroll]
            for r in 0..plan.together {
                let mut sum = sums[m * plan.together + r];
                #[unroll]
                for i in 0..width {
                    sum += f32::cast_from(weights[r].extract(i)) * f32::cast_from(activations.extract(i));
                }
                sums[m * plan.together + r] = sum;
            }
        }
        at += plan.units.per_row;
    }

    let mut shared = Shared::<[f32]>::new_slice(plan.units.of_cube);
    #[unroll]
    for m in 0..plan.rows {
        #[unroll]
        for r in 0..plan.together {
            let total = add_units(sums[m * plan.together + r], &mut shared, plan.units);
            if lane == 0usize && first + r < out_features {
                out[(first_row + m) * out_features + first + r] = F::cast_from(total);
            }
        }
    }
}
