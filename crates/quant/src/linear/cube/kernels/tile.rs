//! A product with up to some dozens of rows of activations, on tensor cores.
//!
//! The weight is the left operand, of 16 rows and 16 codes, so that eight rows of activations cost as much as one. How the 16 codes
//! of an instruction are chosen from a row does not matter as long as activations are chosen alike: here each of the four units
//! that share a row has 16 neighbouring codes of every 64.

use cubecl::prelude::*;

use super::{ScalePlan, scale_of};
use crate::QuantType;

/// Codes of a row that a plane takes at once: four units with two words each.
pub(in super::super) const STEP: usize = 64;
/// Rows of a weight, and of activations, that an instruction takes.
pub(in super::super) const TILE_ROWS: usize = 16;
pub(in super::super) const TILE_COLUMNS: usize = 8;
/// Units of a plane: the instruction is of 32.
const PLANE: usize = 32;
/// Pairs of codes.
const PAIRS: usize = 256;

/// How a product on tensor cores is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct TilePlan {
    /// The table of codes.
    pub quant_type: QuantType,
    /// How scales are read.
    pub scales: ScalePlan,
    /// The type of activations.
    pub operand: Operand,
    /// Numbers of that type whose sum stands for a code: 1 rounds the table to the type, 2 has twice its bits.
    pub terms: usize,
    /// Tiles of rows of the weight that a plane has.
    pub row_tiles: usize,
    /// Tiles of rows of activations.
    pub column_tiles: usize,
    /// Steps whose codes are under way together; divides the steps of a row.
    pub steps: usize,
    /// Planes that share the rows of a plane, each with other steps.
    pub splits: usize,
    /// Units of a cube: a multiple of `splits` planes.
    pub units: usize,
}

/// What tensor cores multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Operand {
    F16,
    Bf16,
}

impl Operand {
    fn ptx(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// A value rounded to the operand's type in the low half, and what is then missing in the high half.
    fn terms(self, value: f32) -> u32 {
        let (first, second) = match self {
            Self::F16 => {
                let first = half::f16::from_f32(value);
                (first.to_bits(), half::f16::from_f32(value - first.to_f32()).to_bits())
            }
            Self::Bf16 => {
                let first = half::bf16::from_f32(value);
                (first.to_bits(), half::bf16::from_f32(value - first.to_f32()).to_bits())
            }
        };
        u32::from(first) | u32::from(second) << 16
    }
}

impl TilePlan {
    /// Rows of the weight that a cube has at once.
    pub fn rows_of_cube(&self) -> usize {
        TILE_ROWS * self.row_tiles * self.groups()
    }

    /// Groups of planes with rows of their own.
    fn groups(&self) -> usize {
        self.units / PLANE / self.splits
    }

    /// Copies of the table: units that look into it together use banks of their own.
    fn copies(&self) -> usize {
        PLANE / self.terms
    }

    /// Accumulators of a unit, four numbers each.
    fn accumulators(&self) -> usize {
        self.row_tiles * self.column_tiles
    }
}

/// `rows` of activations, at most eight for each column tile, times a weight. `x` has two activations in a word.
#[cube(launch_unchecked)]
pub(in super::super) fn tiles<F: Float, S: Size>(
    x: &[Vector<u32, Const<4>>],
    packed: &[Vector<u32, Const<2>>],
    absmax: &[Vector<f32, S>],
    absmax_codes: &[u32],
    out: &mut [F],
    rows: u32,
    in_features: u32,
    out_features: u32,
    #[comptime] plan: TilePlan,
    #[define(F)] _dtype: ElemType,
) {
    let size!(T) = plan.terms;
    let mut table = Shared::<[Vector<u32, T>]>::new_slice(comptime!(PAIRS * plan.copies()));
    let mut sums = Shared::<[f32]>::new_slice(comptime!(plan.units * plan.accumulators() * 4));
    fill_table(&mut table, plan);

    let (rows, in_features, out_features) = (rows as usize, in_features as usize, out_features as usize);
    let plane = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let (row_of_tile, quarter) = (lane / 4, lane % 4);
    let (group, split) = (plane / plan.splits, plane % plan.splits);
    let steps = in_features / STEP;
    let cubes = out_features.div_ceil(comptime!(plan.rows_of_cube()));
    let lookup = (lane % comptime!(plan.copies())) as u32;

    let mut cube = CUBE_POS;
    while cube < cubes {
        let first_row = (cube * comptime!(plan.groups()) + group) * comptime!(TILE_ROWS * plan.row_tiles);
        let mut totals = Array::<Vector<f32, Const<4>>>::new(comptime!(plan.accumulators()));
        #[unroll]
        for i in 0..comptime!(plan.accumulators()) {
            totals[i] = Vector::<f32, Const<4>>::new(0.0f32);
        }
        let mut step = split * plan.steps;
        while step < steps {
            let mut codes = Array::<Vector<u32, Const<2>>>::new(comptime!(2 * plan.row_tiles * plan.steps));
            let mut scales = Array::<f32>::new(comptime!(2 * plan.row_tiles * plan.steps));
            #[unroll]
            for half in 0..comptime!(2 * plan.row_tiles) {
                // Rows beyond the last are computed as the last, and not written.
                let row = first_row + half * comptime!(TILE_ROWS / 2) + row_of_tile;
                let row = select(row < out_features, row, out_features - 1);
                #[unroll]
                for u in 0..plan.steps {
                    codes[half * plan.steps + u] = packed[(row * steps + step + u) * 4 + quarter];
                }
                read_scales::<S>(absmax, absmax_codes, &mut scales, row * steps + step, half * plan.steps, plan);
            }
            #[unroll]
            for u in 0..plan.steps {
                let mut activations = Array::<Vector<u32, Const<4>>>::new(comptime!(2 * plan.column_tiles));
                #[unroll]
                for n in 0..plan.column_tiles {
                    let row = n * TILE_COLUMNS + row_of_tile;
                    activations[2 * n] = Vector::<u32, Const<4>>::new(0u32);
                    activations[2 * n + 1] = Vector::<u32, Const<4>>::new(0u32);
                    if row < rows {
                        let at = (row * steps + step + u) * comptime!(STEP / 8) + 2 * quarter;
                        activations[2 * n] = x[at];
                        activations[2 * n + 1] = x[at + 1];
                    }
                }
                #[unroll]
                for m in 0..plan.row_tiles {
                    let mut parts = Array::<Vector<f32, Const<4>>>::new(plan.column_tiles);
                    #[unroll]
                    for n in 0..plan.column_tiles {
                        parts[n] = Vector::<f32, Const<4>>::new(0.0f32);
                    }
                    let (upper, lower) = (codes[2 * m * plan.steps + u], codes[(2 * m + 1) * plan.steps + u]);
                    #[unroll]
                    for j in 0..4 {
                        let (upper, lower) = (upper.extract(comptime!(j / 2)), lower.extract(comptime!(j / 2)));
                        let byte = comptime!(j % 2 * 2);
                        let first = table[place::<T>(upper, byte, lookup, plan)];
                        let second = table[place::<T>(lower, byte, lookup, plan)];
                        let third = table[place::<T>(upper, comptime!(byte + 1), lookup, plan)];
                        let fourth = table[place::<T>(lower, comptime!(byte + 1), lookup, plan)];
                        #[unroll]
                        for term in 0..plan.terms {
                            #[unroll]
                            for n in 0..plan.column_tiles {
                                let words = activations[2 * n + comptime!(j / 2)];
                                parts[n] = multiply(
                                    first.extract(term),
                                    second.extract(term),
                                    third.extract(term),
                                    fourth.extract(term),
                                    words.extract(byte),
                                    words.extract(comptime!(byte + 1)),
                                    parts[n],
                                    plan.operand,
                                );
                            }
                        }
                    }
                    let mut scale = Vector::<f32, Const<4>>::new(scales[2 * m * plan.steps + u]);
                    scale.insert(2usize, scales[(2 * m + 1) * plan.steps + u]);
                    scale.insert(3usize, scales[(2 * m + 1) * plan.steps + u]);
                    #[unroll]
                    for n in 0..plan.column_tiles {
                        totals[m * plan.column_tiles + n] += parts[n] * scale;
                    }
                }
            }
            step += comptime!(plan.splits * plan.steps);
        }
        #[unroll]
        for i in 0..comptime!(plan.accumulators()) {
            #[unroll]
            for component in 0..4usize {
                let at = place_of_sum(plane, i, component, lane, plan);
                sums[at] = totals[i].extract(component);
            }
        }
        sync_cube();
        write::<F>(&sums, out, cube * comptime!(plan.rows_of_cube()), rows, out_features, plan);
        sync_cube();
        cube += CUBE_COUNT;
    }
}

/// Where the table has the pair of codes in a byte of a word.
#[cube]
fn place<T: Size>(word: u32, #[comptime] byte: usize, lookup: u32, #[comptime] plan: TilePlan) -> usize {
    let copies = comptime!(plan.copies().ilog2());
    let shift = comptime!(8 * byte as u32);
    let mask = comptime!(255u32 << copies);
    let moved = if comptime!(shift >= copies) {
        word >> comptime!(shift.saturating_sub(copies))
    } else {
        word << comptime!(copies.saturating_sub(shift))
    };
    ((moved & mask) | lookup) as usize
}

/// All pairs of codes, the first in the low half of a word.
#[cube]
fn fill_table<T: Size>(table: &mut Shared<[Vector<u32, T>]>, #[comptime] plan: TilePlan) {
    let unit = UNIT_POS as usize;
    let mut singles = Shared::<[u32]>::new_slice(16usize);
    if unit == 0usize {
        #[unroll]
        for code in 0..16usize {
            singles[code] = comptime!(plan.operand.terms(plan.quant_type.decode_table()[code]));
        }
    }
    sync_cube();
    let mut at = unit;
    while at < comptime!(PAIRS * plan.copies()) {
        let pair = at / comptime!(plan.copies());
        let (first, second) = (singles[pair / 16], singles[pair % 16]);
        let mut terms = Vector::<u32, T>::new((first & 0xffffu32) | (second << 16u32));
        if comptime!(plan.terms == 2) {
            terms.insert(1usize, (first >> 16u32) | (second & 0xffff_0000u32));
        }
        table[at] = terms;
        at += plan.units;
    }
    sync_cube();
}

/// The scales of a row's next steps, one for each.
#[cube]
fn read_scales<S: Size>(
    absmax: &[Vector<f32, S>],
    absmax_codes: &[u32],
    scales: &mut Array<f32>,
    first_step: usize,
    #[comptime] at: usize,
    #[comptime] plan: TilePlan,
) {
    if S::value().comptime() > 1 {
        let together = absmax[first_step / plan.steps];
        #[unroll]
        for u in 0..plan.steps {
            scales[at + u] = together.extract(u);
        }
    } else {
        #[unroll]
        for u in 0..plan.steps {
            scales[at + u] = scale_of(absmax, absmax_codes, (first_step + u) * STEP, plan.scales);
        }
    }
}

/// `a b + c` for 16 x 16 by 16 x 8, sums in float32. The registers are those of PTX's `mma.m16n8k16`.
#[cube]
#[allow(clippy::too_many_arguments, reason = "registers")]
fn multiply(
    a0: u32,
    a1: u32,
    a2: u32,
    a3: u32,
    b0: u32,
    b1: u32,
    c: Vector<f32, Const<4>>,
    #[comptime] operand: Operand,
) -> Vector<f32, Const<4>> {
    let dtype = comptime!(operand.ptx());
    let (open, close) = comptime!(("{", "}"));
    let out: Vector<f32, Const<4>>;
    gpu_asm!(
        "mma.sync.aligned.m16n8k16.row.col.f32.{dtype}.{dtype}.f32 {d}, {open}{a0}, {a1}, {a2}, {a3}{close}, {open}{b0}, {b1}{close}, {c};",
        a0 = in(_) a0, a1 = in(_) a1, a2 = in(_) a2, a3 = in(_) a3, b0 = in(_) b0, b1 = in(_) b1, c = in(_) c, d = out(_) out,
        options(pure, nomem),
    );
    out
}

/// Where a unit's number of an accumulator is among all: neighbouring units have neighbouring places.
#[cube]
fn place_of_sum(plane: usize, accumulator: usize, component: usize, lane: usize, #[comptime] plan: TilePlan) -> usize {
    ((plane * comptime!(plan.accumulators()) + accumulator) * 4 + component) * PLANE + lane
}

/// Adds what the planes of a group have and writes it, neighbouring units neighbouring rows of the weight.
#[cube]
fn write<F: Float>(
    sums: &Shared<[f32]>,
    out: &mut [F],
    first_row: usize,
    rows: usize,
    out_features: usize,
    #[comptime] plan: TilePlan,
) {
    let rows_of_cube = comptime!(plan.rows_of_cube());
    let mut at = UNIT_POS as usize;
    while at < rows * rows_of_cube {
        let (column, row) = (at / rows_of_cube, at % rows_of_cube);
        let rows_of_group = comptime!(TILE_ROWS * plan.row_tiles);
        let (group, row_of_group) = (row / rows_of_group, row % rows_of_group);
        let (m, of_tile) = (row_of_group / TILE_ROWS, row_of_group % TILE_ROWS);
        let (n, of_column) = (column / TILE_COLUMNS, column % TILE_COLUMNS);
        let lane = of_tile % 8 * 4 + of_column / 2;
        let component = of_tile / 8 * 2 + of_column % 2;
        let accumulator = m * plan.column_tiles + n;
        let mut total = 0.0f32;
        #[unroll]
        for split in 0..plan.splits {
            let plane = group * plan.splits + split;
            total += sums[place_of_sum(plane, accumulator, component, lane, plan)];
        }
        if first_row + row < out_features {
            out[column * out_features + first_row + row] = F::cast_from(total);
        }
        at += plan.units;
    }
}
