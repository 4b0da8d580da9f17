//! A product of a dense weight with few rows of activations.

use cubecl::prelude::*;

use super::{
    ChosenPlan, RowUnits, add_units,
    chosen::{place_of, weighted},
    zeros,
};

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
    let x = x.slice(first_row * vectors, x.len());
    let mut sums = zeros(comptime!(plan.rows * plan.together));
    let mut at = lane;
    while at < vectors {
        add_vector::<F, W, V>(&mut sums, x, weight, vectors, stride, first, out_features, at, plan);
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

/// Rows of activations times those dense weights of a stack that were chosen for each; see [`ChosenPlan`]. Sums are in float32.
#[cube(launch_unchecked)]
pub(in super::super) fn few_rows_chosen<F: Float, W: Float, V: Size>(
    x: &[Vector<F, V>],
    weight: &[Vector<W, V>],
    chosen: &[i32],
    factors: &[f32],
    out: &mut [F],
    in_features: u32,
    out_features: u32,
    distance: u32,
    count: u32,
    #[comptime] plan: DensePlan,
    #[comptime] chosen_plan: ChosenPlan,
    #[define(F)] _dtype: ElemType,
    #[define(W)] _weight_dtype: ElemType,
) {
    let out_features = out_features as usize;
    let vectors = in_features as usize / V::value();
    let place = place_of(out_features, plan.units, chosen_plan);
    let mut total = 0.0f32;
    if place.is_row {
        // All choices in one walk, so that several are read at once.
        let mut walked = UNIT_POS_X as usize % plan.units.per_row;
        while walked < vectors * comptime!(chosen_plan.slots()) {
            let pair = place.pair(walked, vectors, chosen_plan);
            let start = place.weight(chosen, pair, count, chosen_plan) * distance as usize;
            let first = pair / comptime!(chosen_plan.sharing()) * vectors;
            let (x, weight) = (x.slice(first, x.len()), weight.slice(start, weight.len()));
            let (row, at) = (place.row, walked % vectors);
            let mut sums = zeros(1usize);
            add_vector::<F, W, V>(&mut sums, x, weight, vectors, vectors, row, out_features, at, plan);
            total += weighted(sums[0], factors, pair, chosen_plan);
            walked += plan.units.per_row;
        }
    }
    place.write_sum::<F>(total, out, out_features, plan.units, chosen_plan);
}

/// Adds the products of rows of activations with the vector `at` of neighbouring rows of a weight, from `first` on.
#[cube]
fn add_vector<F: Float, W: Float, V: Size>(
    sums: &mut Array<f32>,
    x: &[Vector<F, V>],
    weight: &[Vector<W, V>],
    vectors: usize,
    stride: usize,
    first: usize,
    out_features: usize,
    at: usize,
    #[comptime] plan: DensePlan,
) {
    let width = V::value().comptime();
    let mut weights = Array::<Vector<W, V>>::new(plan.together);
    #[unroll]
    for r in 0..plan.together {
        // Rows beyond the last are computed as the last, and not written.
        let row = select(first + r < out_features, first + r, out_features - 1);
        weights[r] = weight[row * stride + at];
    }
    #[unroll]
    for m in 0..plan.rows {
        let activations = x[m * vectors + at];
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
}
