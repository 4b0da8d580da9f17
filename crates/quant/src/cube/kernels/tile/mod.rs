//! A product with up to some dozens of rows of activations, on tensor cores.
//!
//! The weight is the left operand, so that eight rows of activations cost as much as one. How the 16 codes of an instruction are
//! chosen from a row does not matter as long as activations are chosen alike: here each of the four units that share a row has 16
//! neighbouring codes of every 64.

mod plan;
mod ring;
mod table;

pub use plan::{Operand, PLANE, STEP, STEPS, TILE_COLUMNS, TILE_ROWS, TilePlan};

use cubecl::prelude::*;

use super::ptx;

/// `rows` of activations, at most eight for each column tile, times a weight. `x` has two activations in a word.
///
/// A cube takes tile after tile; the planes that share a tile have other steps each, and add up at its end. Codes come by
/// asynchronous copies, over the ends of tiles too.
#[cube(launch_unchecked)]
pub fn tiles<F: Float>(
    x: &[Vector<u32, Const<4>>],
    packed: &[Vector<u32, Const<2>>],
    absmax: &[f32],
    absmax_codes: &[u32],
    out: &mut [F],
    rows: u32,
    in_features: u32,
    out_features: u32,
    #[comptime] plan: TilePlan,
    #[define(F)] _dtype: ElemType,
) {
    let (rows, in_features, out_features) = (rows as usize, in_features as usize, out_features as usize);
    let mut sums = Shared::<[f32]>::new_slice(comptime!(plan.all_sums()));
    let mut ring = ring::ring(packed, absmax, in_features, out_features, plan);
    let mut pending = ring::pending();
    #[unroll]
    for _ in 0..comptime!(plan.stages - 1) {
        ring::ask(&mut ring, &mut pending, absmax, absmax_codes, plan);
        if comptime!(plan.scales.nested) {
            ring::settle(&pending, absmax);
        }
    }
    let mut kept = Array::<Vector<u32, Const<4>>>::new(comptime!(if plan.has_whole_rows { 2 * STEPS } else { 1 }));
    if comptime!(plan.has_whole_rows) {
        #[unroll]
        for step in 0..STEPS {
            let at = ring.first_step + step;
            #[unroll]
            for half in 0..2usize {
                kept[2 * step + half] = activations(x, at, ring.steps, half, 0usize, rows);
            }
        }
    }
    let table = table::fill(plan);
    let mut totals = Array::<Vector<f32, Const<4>>>::new(plan.column_tiles);
    #[unroll]
    for n in 0..plan.column_tiles {
        totals[n] = Vector::<f32, Const<4>>::new(0.0f32);
    }

    let mut first_row = CUBE_POS * comptime!(plan.rows_of_cube());
    let (mut chunk, mut step, mut parity) = (0u32, ring.first_step, 0usize);
    while first_row < out_features {
        if comptime!(plan.scales.nested) {
            ring::settle(&pending, absmax);
        }
        ptx::wait_for_copies(comptime!(plan.stages - 2));
        // Other units of the plane have copied, and have read what is filled now.
        sync_plane();
        ring::ask(&mut ring, &mut pending, absmax, absmax_codes, plan);
        let mut codes = Array::<Vector<u32, Const<2>>>::new(comptime!(2 * STEPS));
        let mut scales = Array::<f32>::new(comptime!(2 * STEPS));
        ring::read(&mut ring, &mut codes, &mut scales, plan);
        // Not so in the last chunk of a row that is not a whole number of chunks.
        if step < ring.steps {
            #[unroll]
            for u in 0..STEPS {
                let operands = decode(&table, codes[2 * u], codes[2 * u + 1], plan);
                let (upper, lower) = (scales[2 * u], scales[2 * u + 1]);
                #[unroll]
                for n in 0..plan.column_tiles {
                    let mut words = Array::<Vector<u32, Const<4>>>::new(2usize);
                    #[unroll]
                    for half in 0..2usize {
                        words[half] = if comptime!(plan.has_whole_rows) {
                            kept[2 * u + half]
                        } else {
                            activations(x, step + u, ring.steps, half, n, rows)
                        };
                    }
                    totals[n] += step_of_tile(&operands, &words, upper, lower, plan);
                }
            }
        }

        chunk += 1u32;
        step += comptime!(plan.splits * STEPS);
        // The planes of a cube have the same number of chunks, so that all reach the end of a tile.
        if chunk == ring.chunks {
            keep_sums(&mut sums, &mut totals, parity, plan);
            sync_cube();
            write::<F>(&sums, out, parity, first_row, rows, out_features, plan);
            if comptime!(plan.alternates()) {
                // What was written for the tile before is read by now, and the tile after writes elsewhere.
                parity = 1 - parity;
            } else {
                sync_cube();
            }
            chunk = 0u32;
            step = ring.first_step;
            first_row += ring.stride;
        }
    }
}

/// Eight of a unit's sixteen activations for a step, for a tile of rows. Rows beyond the last are read as the last, and not written;
/// steps beyond the last likewise, and have scales of zero.
#[cube]
fn activations(
    x: &[Vector<u32, Const<4>>],
    step: usize,
    steps: usize,
    #[comptime] half: usize,
    #[comptime] column_tile: usize,
    rows: usize,
) -> Vector<u32, Const<4>> {
    let lane = UNIT_POS as usize % PLANE;
    let row = comptime!(column_tile * TILE_COLUMNS) + lane / 4;
    let row = select(row < rows, row, rows - 1);
    let step = select(step < steps, step, steps - 1);
    x[(row * steps + step) * comptime!(STEP / 8) + 2 * (lane % 4) + half]
}

/// The left operands for a unit's 16 codes of two rows, four registers an instruction.
///
/// With one term an instruction has eight upper and eight lower rows. With two it has both terms of eight rows, and the lower rows
/// come after all of the upper ones: so the two words that are looked up together are neighbours among the registers.
#[cube]
fn decode(
    table: &table::Table,
    upper: Vector<u32, Const<2>>,
    lower: Vector<u32, Const<2>>,
    #[comptime] plan: TilePlan,
) -> Array<Vector<u32, Const<2>>> {
    let mut operands = Array::<Vector<u32, Const<2>>>::new(comptime!(8 * plan.terms));
    #[unroll]
    for pair in 0..8usize {
        let (word, byte) = comptime!((pair / 4, pair % 4));
        let of_upper = table::look_up(table, upper.extract(word), byte, plan);
        let of_lower = table::look_up(table, lower.extract(word), byte, plan);
        if comptime!(plan.terms == 2) {
            operands[pair] = of_upper;
            operands[8 + pair] = of_lower;
        } else {
            let mut both = of_upper;
            both.insert(1usize, of_lower.extract(0usize));
            operands[pair] = both;
        }
    }
    operands
}

/// What a step adds to the sums of a tile.
#[cube]
fn step_of_tile(
    operands: &Array<Vector<u32, Const<2>>>,
    words: &Array<Vector<u32, Const<4>>>,
    upper: f32,
    lower: f32,
    #[comptime] plan: TilePlan,
) -> Vector<f32, Const<4>> {
    let mut parts = Array::<Vector<f32, Const<4>>>::new(plan.terms);
    #[unroll]
    for part in 0..plan.terms {
        parts[part] = Vector::<f32, Const<4>>::new(0.0f32);
        #[unroll]
        for j in 0..4usize {
            let (first, second) = (operands[8 * part + 2 * j], operands[8 * part + 2 * j + 1]);
            let word = words[comptime!(j / 2)];
            let (b0, b1) = (word.extract(comptime!(j % 2 * 2)), word.extract(comptime!(j % 2 * 2 + 1)));
            let (a0, a1) = (first.extract(0usize), first.extract(1usize));
            let (a2, a3) = (second.extract(0usize), second.extract(1usize));
            parts[part] = ptx::multiply(a0, a1, a2, a3, b0, b1, parts[part], plan.operand);
        }
    }
    let mut scale = Vector::<f32, Const<4>>::new(upper);
    scale.insert(2usize, lower);
    scale.insert(3usize, lower);
    if comptime!(plan.terms == 2) {
        // Rows eight to fifteen of these are the second terms of the same rows.
        let mut sum = Vector::<f32, Const<4>>::new(0.0f32);
        #[unroll]
        for column in 0..2usize {
            let of_upper = parts[0].extract(column) + parts[0].extract(comptime!(column + 2));
            let of_lower = parts[1].extract(column) + parts[1].extract(comptime!(column + 2));
            sum.insert(column, of_upper);
            sum.insert(comptime!(column + 2), of_lower);
        }
        sum * scale
    } else {
        parts[0] * scale
    }
}

/// Leaves a unit's sums for the other planes of the cube, and begins new ones.
#[cube]
fn keep_sums(
    sums: &mut Shared<[f32]>,
    totals: &mut Array<Vector<f32, Const<4>>>,
    parity: usize,
    #[comptime] plan: TilePlan,
) {
    let (plane, lane) = (UNIT_POS as usize / PLANE, UNIT_POS as usize % PLANE);
    #[unroll]
    for n in 0..plan.column_tiles {
        #[unroll]
        for component in 0..4usize {
            let at = place_of_sum(parity, plane, n, component, lane, plan);
            sums[at] = totals[n].extract(component);
        }
        totals[n] = Vector::<f32, Const<4>>::new(0.0f32);
    }
}

/// Where a unit's number is among all: neighbouring units have neighbouring places.
#[cube]
fn place_of_sum(
    parity: usize,
    plane: usize,
    column_tile: usize,
    component: usize,
    lane: usize,
    #[comptime] plan: TilePlan,
) -> usize {
    parity * comptime!(plan.sums()) + ((plane * plan.column_tiles + column_tile) * 4 + component) * PLANE + lane
}

/// Adds what the planes of a group have and writes it, neighbouring units neighbouring rows of the weight.
#[cube]
#[allow(clippy::too_many_arguments, reason = "sizes")]
fn write<F: Float>(
    sums: &Shared<[f32]>,
    out: &mut [F],
    parity: usize,
    first_row: usize,
    rows: usize,
    out_features: usize,
    #[comptime] plan: TilePlan,
) {
    let rows_of_cube = comptime!(plan.rows_of_cube());
    let mut at = UNIT_POS as usize;
    while at < rows * rows_of_cube {
        let (column, row) = (at / rows_of_cube, at % rows_of_cube);
        let (group, of_tile) = (row / TILE_ROWS, row % TILE_ROWS);
        let (column_tile, of_column) = (column / TILE_COLUMNS, column % TILE_COLUMNS);
        let lane = of_tile % 8 * 4 + of_column / 2;
        let component = of_tile / 8 * 2 + of_column % 2;
        let mut total = 0.0f32;
        #[unroll]
        for split in 0..plan.splits {
            total += sums[place_of_sum(parity, group * plan.splits + split, column_tile, component, lane, plan)];
        }
        if first_row + row < out_features {
            out[column * out_features + first_row + row] = F::cast_from(total);
        }
        at += plan.units;
    }
}
