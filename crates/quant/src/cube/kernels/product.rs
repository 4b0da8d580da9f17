//! A product with few rows of activations.

use cubecl::prelude::*;

use super::{
    CODES, ChosenPlan, Decoder, RowUnits, ScalePlan, TABLE_COPIES, Table, add_units,
    chosen::{place_of, weighted},
    scale_of, shared_table, shift_of, zeros,
};

/// How a matrix-vector product is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct MatvecPlan {
    /// How codes become values.
    pub decoder: Decoder,
    /// Rows of activations.
    pub rows: usize,
    /// How scales are read.
    pub scales: ScalePlan,
    /// Who computes a row of the weight.
    pub units: RowUnits,
}

/// `rows` of activations times a weight: some units walk over one row of the weight, so that every code is read once
/// for all rows of activations. Sums are in float32.
#[cube(launch_unchecked)]
pub(in super::super) fn matvec<F: Float, W: Size, V: Size>(
    x: &[Vector<F, V>],
    packed: &[Vector<u32, W>],
    absmax: &[Vector<f32, Const<1>>],
    absmax_codes: &[u32],
    out: &mut [F],
    in_features: u32,
    out_features: u32,
    #[comptime] plan: MatvecPlan,
    #[define(F)] _dtype: ElemType,
) {
    let unit = UNIT_POS_X as usize;
    let (in_features, out_features) = (in_features as usize, out_features as usize);
    let values = shared_table(comptime!(Table::Values(plan.decoder)));
    let lane = unit % plan.units.per_row;
    let row = CUBE_POS * comptime!(plan.units.rows()) + unit / plan.units.per_row;
    let mut sums = zeros(plan.rows);
    if row < out_features {
        let words_at_once = W::value().comptime();
        let vectors = in_features / comptime!(CODES * words_at_once);
        let mut at = lane;
        while at < vectors {
            add_vector::<F, W, V>(&mut sums, x, packed, absmax, absmax_codes, &values, in_features, row, at, plan);
            at += plan.units.per_row;
        }
    }

    let mut shared = Shared::<[f32]>::new_slice(plan.units.of_cube);
    #[unroll]
    for m in 0..plan.rows {
        let total = add_units(sums[m], &mut shared, plan.units);
        if lane == 0usize && row < out_features {
            out[m * out_features + row] = F::cast_from(total);
        }
    }
}

/// Rows of activations times those weights of a stack that were chosen for each; see [`ChosenPlan`]. Sums are in float32.
#[cube(launch_unchecked)]
pub(in super::super) fn matvec_chosen<F: Float, W: Size, V: Size>(
    x: &[Vector<F, V>],
    packed: &[Vector<u32, W>],
    absmax: &[Vector<f32, Const<1>>],
    absmax_codes: &[u32],
    chosen: &[i32],
    factors: &[f32],
    out: &mut [F],
    in_features: u32,
    out_features: u32,
    distance: u32,
    absmax_distance: u32,
    codes_distance: u32,
    count: u32,
    #[comptime] plan: MatvecPlan,
    #[comptime] chosen_plan: ChosenPlan,
    #[define(F)] _dtype: ElemType,
) {
    let (in_features, out_features) = (in_features as usize, out_features as usize);
    let values = shared_table(comptime!(Table::Values(plan.decoder)));
    let place = place_of(out_features, plan.units, chosen_plan);
    let mut total = 0.0f32;
    if place.is_row {
        let words_at_once = W::value().comptime();
        let vectors = in_features / comptime!(CODES * words_at_once);
        // All choices in one walk, so that several are read at once.
        let mut walked = UNIT_POS_X as usize % plan.units.per_row;
        while walked < vectors * comptime!(chosen_plan.slots()) {
            let pair = place.pair(walked, vectors, chosen_plan);
            let weight = place.weight(chosen, pair, count, chosen_plan);
            let (codes, scales) = (weight * distance as usize, weight * absmax_distance as usize);
            let scale_codes = weight * codes_distance as usize;
            let first = pair / comptime!(chosen_plan.sharing()) * (in_features / V::value());
            let mut sums = zeros(1usize);
            add_vector::<F, W, V>(
                &mut sums,
                x.slice(first, x.len()),
                packed.slice(codes, packed.len()),
                absmax.slice(scales, absmax.len()),
                absmax_codes.slice(scale_codes, absmax_codes.len()),
                &values,
                in_features,
                place.row,
                walked % vectors,
                plan,
            );
            total += weighted(sums[0], factors, pair, chosen_plan);
            walked += plan.units.per_row;
        }
    }
    place.write_sum::<F>(total, out, out_features, plan.units, chosen_plan);
}

/// Adds the products of rows of activations with the vector `at` of a weight's row.
#[cube]
fn add_vector<F: Float, W: Size, V: Size>(
    sums: &mut Array<f32>,
    x: &[Vector<F, V>],
    packed: &[Vector<u32, W>],
    absmax: &[Vector<f32, Const<1>>],
    absmax_codes: &[u32],
    values_of_codes: &Shared<[f32]>,
    in_features: usize,
    row: usize,
    at: usize,
    #[comptime] plan: MatvecPlan,
) {
    let words_at_once = W::value().comptime();
    let width = V::value().comptime();
    let parts = comptime!(CODES / width);
    let per_vector = comptime!(CODES * words_at_once);
    let copy = UNIT_POS_X as usize % TABLE_COPIES;
    let place = row * (in_features / per_vector) + at;
    let words = packed[place];
    let scale = scale_of(absmax, absmax_codes, place * per_vector, plan.scales);
    #[unroll]
    for w in 0..words_at_once {
        let word = words.extract(w);
        let mut values = Array::<f32>::new(CODES);
        #[unroll]
        for i in 0..CODES {
            let code = (word >> comptime!(shift_of(i))) & 15u32;
            values[i] = values_of_codes[code as usize * TABLE_COPIES + copy];
        }
        #[unroll]
        for m in 0..plan.rows {
            let of_word = (m * in_features + at * per_vector + w * CODES) / width;
            let mut sum = 0.0f32;
            #[unroll]
            for part in 0..parts {
                let activations = x[of_word + part];
                #[unroll]
                for i in 0..width {
                    sum += values[part * width + i] * f32::cast_from(activations.extract(i));
                }
            }
            sums[m] += sum * scale;
        }
    }
}
