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
    /// Tiles of rows of activations.
    pub column_tiles: usize,
    /// Steps whose codes are under way together.
    pub steps: usize,
    /// Planes that share the rows of a tile, each with other steps: `steps * splits` divides the steps of a row.
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
        TILE_ROWS * self.units / PLANE / self.splits
    }

    /// Bytes of the memory that the units of a cube share: the table, the sums of two tiles, the codes of the table.
    pub fn shared_bytes(&self) -> usize {
        4 * (PAIRS * self.terms * PLANE + 2 * self.sums() + 16)
    }

    /// Numbers that the planes of a cube have for each other after a tile.
    fn sums(&self) -> usize {
        self.units * self.column_tiles * 4
    }
}

/// `rows` of activations, at most eight for each column tile, times a weight. `x` has two activations in a word.
///
/// A cube takes tile after tile. The codes that come next are asked for before those at hand are multiplied, over the end of a tile
/// too.
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
    let mut table = Shared::<[u32]>::new_slice(comptime!(PAIRS * plan.terms * PLANE));
    let mut sums = Shared::<[f32]>::new_slice(comptime!(2 * plan.sums()));

    let (rows, in_features, out_features) = (rows as usize, in_features as usize, out_features as usize);
    let plane = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let (row_of_tile, quarter) = (lane / 4, lane % 4);
    let group = plane / plan.splits;
    let steps = in_features / STEP;
    let cubes = out_features.div_ceil(comptime!(plan.rows_of_cube()));
    let first_step = plane % plan.splits * plan.steps;

    let mut cube = CUBE_POS;
    let mut step = first_step;
    let mut parity = 0usize;
    let mut next_codes = Array::<Vector<u32, Const<2>>>::new(comptime!(2 * plan.steps));
    let mut next_scales = Array::<f32>::new(comptime!(2 * plan.steps));
    #[unroll]
    for half in 0..2usize {
        let at = row_at(cube, group, half, row_of_tile, out_features, plan) * steps + step;
        read_codes(packed, &mut next_codes, at, quarter, half * plan.steps, plan);
        read_scales::<S>(absmax, absmax_codes, &mut next_scales, at, half * plan.steps, plan);
    }
    let mut totals = Array::<Vector<f32, Const<4>>>::new(plan.column_tiles);
    #[unroll]
    for n in 0..plan.column_tiles {
        totals[n] = Vector::<f32, Const<4>>::new(0.0f32);
    }
    fill_table(&mut table, plan);
    let table = address_of(&table) + 4u32 * lane as u32;

    while cube < cubes {
        let mut codes = Array::<Vector<u32, Const<2>>>::new(comptime!(2 * plan.steps));
        let mut scales = Array::<f32>::new(comptime!(2 * plan.steps));
        #[unroll]
        for i in 0..comptime!(2 * plan.steps) {
            codes[i] = next_codes[i];
            scales[i] = next_scales[i];
        }
        let here = step;
        step += comptime!(plan.splits * plan.steps);
        let is_last = step >= steps;
        let next_cube = select(is_last, cube + CUBE_COUNT, cube);
        step = select(is_last, first_step, step);
        #[unroll]
        for half in 0..2usize {
            let at = row_at(next_cube, group, half, row_of_tile, out_features, plan) * steps + step;
            read_codes(packed, &mut next_codes, at, quarter, half * plan.steps, plan);
            read_scales::<S>(absmax, absmax_codes, &mut next_scales, at, half * plan.steps, plan);
        }

        #[unroll]
        for u in 0..plan.steps {
            let mut activations = Array::<Vector<u32, Const<4>>>::new(comptime!(2 * plan.column_tiles));
            let mut parts = Array::<Vector<f32, Const<4>>>::new(plan.column_tiles);
            #[unroll]
            for n in 0..plan.column_tiles {
                let row = n * TILE_COLUMNS + row_of_tile;
                activations[2 * n] = Vector::<u32, Const<4>>::new(0u32);
                activations[2 * n + 1] = Vector::<u32, Const<4>>::new(0u32);
                if row < rows {
                    let at = (row * steps + here + u) * comptime!(STEP / 8) + 2 * quarter;
                    activations[2 * n] = x[at];
                    activations[2 * n + 1] = x[at + 1];
                }
                parts[n] = Vector::<f32, Const<4>>::new(0.0f32);
            }
            let (upper, lower) = (codes[u], codes[plan.steps + u]);
            #[unroll]
            for j in 0..4 {
                let (upper, lower) = (upper.extract(comptime!(j / 2)), lower.extract(comptime!(j / 2)));
                let byte = comptime!(j % 2 * 2);
                let first = place(table, upper, byte, plan);
                let second = place(table, lower, byte, plan);
                let third = place(table, upper, comptime!(byte + 1), plan);
                let fourth = place(table, lower, comptime!(byte + 1), plan);
                #[unroll]
                for term in 0..plan.terms {
                    let (a0, a1) = (look_up(first, term), look_up(second, term));
                    let (a2, a3) = (look_up(third, term), look_up(fourth, term));
                    #[unroll]
                    for n in 0..plan.column_tiles {
                        let words = activations[2 * n + comptime!(j / 2)];
                        let (b0, b1) = (words.extract(byte), words.extract(comptime!(byte + 1)));
                        parts[n] = multiply(a0, a1, a2, a3, b0, b1, parts[n], plan.operand);
                    }
                }
            }
            let mut scale = Vector::<f32, Const<4>>::new(scales[u]);
            scale.insert(2usize, scales[plan.steps + u]);
            scale.insert(3usize, scales[plan.steps + u]);
            #[unroll]
            for n in 0..plan.column_tiles {
                totals[n] += parts[n] * scale;
            }
        }

        // The planes of a cube have as many steps each, so that all are at the end of a tile.
        if is_last {
            #[unroll]
            for n in 0..plan.column_tiles {
                #[unroll]
                for component in 0..4usize {
                    let at = place_of_sum(parity, plane, n, component, lane, plan);
                    sums[at] = totals[n].extract(component);
                }
                totals[n] = Vector::<f32, Const<4>>::new(0.0f32);
            }
            // What was written for the tile before is read by now, and the tile after writes elsewhere.
            sync_cube();
            write::<F>(&sums, out, parity, cube * comptime!(plan.rows_of_cube()), rows, out_features, plan);
            parity = 1 - parity;
        }
        cube = next_cube;
    }
}

/// A row of the weight, of which the upper and the lower half of a tile have eight each. Rows beyond the last are computed as the last,
/// and not written.
#[cube]
fn row_at(
    cube: usize,
    group: usize,
    #[comptime] half: usize,
    row_of_tile: usize,
    out_features: usize,
    #[comptime] plan: TilePlan,
) -> usize {
    let row = cube * comptime!(plan.rows_of_cube()) + group * TILE_ROWS + comptime!(half * TILE_ROWS / 2) + row_of_tile;
    select(row < out_features, row, out_features - 1)
}

/// Where a table is in the memory of the cube, in bytes.
#[cube]
fn address_of(table: &Shared<[u32]>) -> u32 {
    // SAFETY: the table is not empty.
    let pointer = unsafe { table.as_ptr_unchecked() };
    let address: u64;
    gpu_asm!("cvta.to.shared.u64 {address}, {pointer};", address = out(_) address, pointer = mem_in(_) pointer, options(explicit_mem));
    address as u32
}

/// The address of the pair of codes in a byte of a word, in the table of a unit that begins at `table`.
///
/// Compilers shift, mask, add and shift again; one instruction takes the byte out, another multiplies and adds.
#[cube]
fn place(table: u32, word: u32, #[comptime] byte: usize, #[comptime] plan: TilePlan) -> u32 {
    let selector = comptime!(0x4440 + byte);
    let pair: u32;
    gpu_asm!("prmt.b32 {pair}, {word}, 0, {selector};", pair = out(_) pair, word = in(_) word, options(pure, nomem));
    pair * comptime!((4 * plan.terms * PLANE) as u32) + table
}

/// A word of the table.
#[cube]
#[allow(clippy::identity_op, reason = "see below")]
fn look_up(address: u32, #[comptime] term: usize) -> u32 {
    let offset = comptime!(4 * term * PLANE);
    let value: u32;
    gpu_asm!("ld.shared.u32 {value}, [{address}+{offset}];", value = out(_) value, address = in(_) address, options(readonly));
    // As a value: instructions would be given the address of the variable.
    value | 0u32
}

/// All pairs of codes, the first in the low half of a word: for each unit of a plane the pair rounded, then what is missing.
#[cube]
fn fill_table(table: &mut Shared<[u32]>, #[comptime] plan: TilePlan) {
    let unit = UNIT_POS as usize;
    let mut singles = Shared::<[u32]>::new_slice(16usize);
    if unit == 0usize {
        #[unroll]
        for code in 0..16usize {
            singles[code] = comptime!(plan.operand.terms(plan.quant_type.decode_table()[code]));
        }
    }
    sync_cube();
    let lane = unit % PLANE;
    let mut pair = unit / PLANE;
    while pair < PAIRS {
        let (first, second) = (singles[pair / 16], singles[pair % 16]);
        let at = pair * comptime!(plan.terms * PLANE) + lane;
        table[at] = (first & 0xffffu32) | (second << 16u32);
        if comptime!(plan.terms == 2) {
            table[at + PLANE] = (first >> 16u32) | (second & 0xffff_0000u32);
        }
        pair += comptime!(plan.units / PLANE);
    }
    sync_cube();
}

/// A unit's codes of a row's next steps.
#[cube]
fn read_codes(
    packed: &[Vector<u32, Const<2>>],
    codes: &mut Array<Vector<u32, Const<2>>>,
    first_step: usize,
    quarter: usize,
    #[comptime] at: usize,
    #[comptime] plan: TilePlan,
) {
    #[unroll]
    for u in 0..plan.steps {
        codes[at + u] = packed[(first_step + u) * 4 + quarter];
    }
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
