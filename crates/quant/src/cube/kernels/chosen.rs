//! What products with chosen weights of a stack have in common, and how stacks are filled.

use cubecl::prelude::*;

use super::{RowUnits, add_units};

/// How rows of activations go with the weights that were chosen for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct ChosenPlan {
    /// Weights chosen for a row.
    pub choices: usize,
    /// Weights that one choice stands for, whose rows follow each other in the result.
    pub parts: usize,
    /// Whether the products of a row are weighted and added. Then each choice has activations of its own, `[rows * choices, in]`, and the
    /// result is `[rows, out]`. Otherwise all choices share a row of `[rows, in]`, and the result is `[rows * choices, parts * out]`.
    pub sums: bool,
}

impl ChosenPlan {
    /// Products that are added for a row of the result.
    pub fn slots(&self) -> usize {
        if self.sums { self.choices } else { 1 }
    }

    /// Choices that share a row of activations.
    pub fn sharing(&self) -> usize {
        if self.sums { 1 } else { self.choices }
    }
}

/// What a unit works at.
#[derive(CubeType)]
pub(super) struct Place {
    /// The row of the result.
    target: usize,
    /// Which of a choice's weights.
    part: usize,
    /// The row of that weight.
    pub row: usize,
    /// Whether there is such a row.
    pub is_row: bool,
}

/// A cube has neighbouring rows of the weights for one row of the result.
#[cube]
pub(super) fn place_of(out_features: usize, #[comptime] units: RowUnits, #[comptime] plan: ChosenPlan) -> Place {
    let row = CUBE_POS_X as usize * comptime!(units.rows()) + UNIT_POS_X as usize / units.per_row;
    let is_row = row < out_features * plan.parts;
    Place { target: CUBE_POS_Y as usize, part: row / out_features, row: row % out_features, is_row }
}

#[cube]
impl Place {
    /// The weight in the stack; a choice that does not exist is taken for the last.
    pub fn weight(&self, chosen: &[i32], pair: usize, count: u32, #[comptime] plan: ChosenPlan) -> usize {
        let choice = u32::cast_from(chosen[pair]);
        let choice = select(choice < count, choice, count - 1u32);
        choice as usize * plan.parts + self.part
    }

    /// The choice that a unit reads after this many vectors of the row's choices, counted over all rows.
    pub fn pair(&self, walked: usize, vectors: usize, #[comptime] plan: ChosenPlan) -> usize {
        self.target * comptime!(plan.slots()) + walked / vectors
    }

    /// The first unit of a row writes the sum over its units.
    pub fn write_sum<F: Float>(
        &self,
        part_of_unit: f32,
        out: &mut [F],
        out_features: usize,
        #[comptime] units: RowUnits,
        #[comptime] plan: ChosenPlan,
    ) {
        let mut shared = Shared::<[f32]>::new_slice(units.of_cube);
        let total = add_units(part_of_unit, &mut shared, units);
        let lane = UNIT_POS_X as usize % units.per_row;
        if self.is_row && lane == 0usize {
            let row = self.part * out_features + self.row;
            out[self.target * out_features * plan.parts + row] = F::cast_from(total);
        }
    }
}

/// A product with the factor of its choice.
#[cube]
pub(super) fn weighted(product: f32, factors: &[f32], pair: usize, #[comptime] plan: ChosenPlan) -> f32 {
    if comptime!(plan.sums) { product * factors[pair] } else { product }
}

/// Copies words to a place in a larger memory.
#[cube(launch_unchecked)]
pub(in super::super) fn copy_words(from: &[u32], to: &mut [u32], words: u32, at: u32) {
    if ABSOLUTE_POS < words as usize {
        to[at as usize + ABSOLUTE_POS] = from[ABSOLUTE_POS];
    }
}
