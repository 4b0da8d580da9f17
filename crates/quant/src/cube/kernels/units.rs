//! Units that walk over a row of a weight together.

use cubecl::prelude::*;

/// Who computes a row, or some neighbouring rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct RowUnits {
    /// Units that share a row: a power of two.
    pub per_row: usize,
    /// Units of a cube: a multiple of the above.
    pub of_cube: usize,
    /// Units of a plane, where their sum is one instruction.
    pub plane: Option<usize>,
}

impl RowUnits {
    /// Rows, or groups of rows, that a cube computes.
    pub fn rows(&self) -> usize {
        self.of_cube / self.per_row
    }
}

/// The sum over the units of a row, for its first unit.
#[cube]
pub(super) fn add_units(value: f32, shared: &mut Shared<[f32]>, #[comptime] units: RowUnits) -> f32 {
    let unit = UNIT_POS_X as usize;
    let in_plane = comptime!(units.plane.unwrap_or(1));
    let sum = if comptime!(units.plane.is_some()) { plane_sum(value) } else { value };
    if comptime!(units.per_row == in_plane) {
        sum
    } else {
        sync_cube();
        let (of_plane, of_row) = (unit % in_plane, unit % units.per_row);
        if of_plane == 0usize {
            shared[unit / in_plane] = sum;
        }
        sync_cube();
        let mut total = 0.0f32;
        let parts = comptime!(units.per_row / in_plane);
        if of_row == 0usize {
            for part in 0..parts {
                total += shared[unit / in_plane + part];
            }
        }
        total
    }
}

/// Sums of nothing yet.
#[cube]
pub(super) fn zeros(#[comptime] count: usize) -> Array<f32> {
    let mut sums = Array::<f32>::new(count);
    #[unroll]
    for m in 0..count {
        sums[m] = 0.0f32;
    }
    sums
}
