//! Codes and scales on their way: each plane has a ring of places for itself, asks for the codes after next, and waits for the next.
//!
//! A place has 16 rows of 128 bytes. Of a row, the eight parts of 16 bytes are exchanged so that units that read together read from
//! different banks; then come the scales, four of each row.

use cubecl::prelude::*;

use super::{
    super::{NESTED_HEAD, ptx},
    plan::{PLANE, STAGE, STAGE_CODES, STEP, STEPS, TILE_ROWS, TilePlan},
};
use crate::table16::NESTED_BLOCKSIZE;

/// Bytes of a row's steps.
const ROW: usize = STEPS * STEP / 2;
/// Units that copy a row.
const ROW_UNITS: usize = ROW / 16;
/// Rows that a plane copies with one instruction.
const ROWS_AT_ONCE: usize = PLANE / ROW_UNITS;

/// In place of a shift, for a step beyond the last of a row.
const NO_STEP: u32 = 32;

/// The next codes to ask for.
#[derive(CubeType)]
pub struct Ring {
    /// The plane's places, in bytes.
    places: u32,
    /// The place that is filled next, in bytes from the first, and the one that is read next.
    to_fill: u32,
    to_read: u32,
    /// Tiles times chunks that are not asked for.
    left: u32,
    chunk: u32,
    /// Chunks of a row.
    pub chunks: u32,
    /// The first of the plane's steps.
    pub first_step: usize,
    step: usize,
    /// Steps of a row.
    pub steps: usize,
    /// The first row of the plane's tile.
    row: usize,
    rows: usize,
    /// Rows from a tile of the cube to the next.
    pub stride: usize,
    packed: u64,
    absmax: u64,
}

/// Scales of scales under way: those of two rows, for a unit.
#[derive(CubeType)]
pub struct Pending {
    words: Array<u32>,
    scales: Array<f32>,
    shifts: Array<u32>,
    place: u32,
}

#[cube]
pub fn pending() -> Pending {
    Pending {
        words: Array::<u32>::new(2usize),
        scales: Array::<f32>::new(2usize),
        shifts: Array::<u32>::new(2usize),
        place: 0u32,
    }
}

/// A ring at the beginning of a cube's first tile.
#[cube]
pub fn ring(
    packed: &[Vector<u32, Const<2>>],
    absmax: &[f32],
    in_features: usize,
    out_features: usize,
    #[comptime] plan: TilePlan,
) -> Ring {
    let places = Shared::<[u32]>::new_aligned_slice(comptime!(plan.planes() * plan.stages * STAGE / 4), 128usize);
    let plane = UNIT_POS as usize / PLANE;
    let chunks = in_features.div_ceil(comptime!(plan.chunk()));
    let tiles = out_features.div_ceil(comptime!(plan.rows_of_cube()));
    let own_tiles = (tiles - CUBE_POS).div_ceil(CUBE_COUNT);
    let first_step = plane % plan.splits * STEPS;
    Ring {
        places: ptx::shared_address(&places) + plane as u32 * comptime!((plan.stages * STAGE) as u32),
        to_fill: 0u32,
        to_read: 0u32,
        left: (own_tiles * chunks) as u32,
        chunk: 0u32,
        chunks: chunks as u32,
        first_step,
        step: first_step,
        steps: in_features / STEP,
        row: CUBE_POS * comptime!(plan.rows_of_cube()) + plane / plan.splits * TILE_ROWS,
        rows: out_features,
        stride: CUBE_COUNT * comptime!(plan.rows_of_cube()),
        packed: ptx::global_address(packed),
        absmax: ptx::global_address(absmax),
    }
}

/// Asks for the next codes and scales, if there are any. Steps beyond a row's last have scales of zero; rows beyond the last are read
/// as the last.
#[cube]
pub fn ask(ring: &mut Ring, pending: &mut Pending, absmax: &[f32], absmax_codes: &[u32], #[comptime] plan: TilePlan) {
    if ring.left > 0u32 {
        let lane = UNIT_POS as usize % PLANE;
        let place = ring.places + ring.to_fill;
        let (line, part) = (lane / ROW_UNITS, lane % ROW_UNITS);
        let count = select(ring.step + part / 2 < ring.steps, 16u32, 0u32);
        let to = place + (line * ROW) as u32 + place_of_part(part, line) as u32 * 16u32;
        #[unroll]
        for pass in 0..comptime!(TILE_ROWS / ROWS_AT_ONCE) {
            let row = clamp_row(ring.row + comptime!(pass * ROWS_AT_ONCE) + line, ring.rows);
            let from = (row * ring.steps + ring.step) * comptime!(STEP / 2) + part * 16usize;
            ptx::copy_16(to + comptime!((pass * ROWS_AT_ONCE * ROW) as u32), ring.packed + from as u64, count);
        }

        let (line, step) = (lane / STEPS, ring.step + lane % STEPS);
        let is_within = step < ring.steps;
        let to = place + comptime!(STAGE_CODES as u32) + lane as u32 * 4u32;
        #[unroll]
        for half in 0..2usize {
            let row = clamp_row(ring.row + comptime!(half * TILE_ROWS / 2) + line, ring.rows);
            let block = (row * ring.steps + select(is_within, step, 0usize)) / comptime!(plan.scales.blocksize / STEP);
            if comptime!(plan.scales.nested) {
                pending.words[half] = absmax_codes[block / 4usize];
                pending.shifts[half] = select(is_within, (block % 4usize) as u32 * 8u32, NO_STEP);
                pending.scales[half] = absmax[NESTED_HEAD + block / NESTED_BLOCKSIZE];
            } else {
                let count = select(is_within, 4u32, 0u32);
                ptx::copy_4(to + comptime!((half * PLANE * 4) as u32), ring.absmax + block as u64 * 4u64, count);
            }
        }
        pending.place = to;

        ring.to_fill = next_place(ring.to_fill, plan);
        ring.left -= 1u32;
        ring.chunk += 1u32;
        let is_last = ring.chunk == ring.chunks;
        ring.chunk = select(is_last, 0u32, ring.chunk);
        ring.step = select(is_last, ring.first_step, ring.step + comptime!(plan.splits * STEPS));
        ring.row = select(is_last, ring.row + ring.stride, ring.row);
    }
    ptx::commit_copies();
}

/// Decodes the nested scales that were asked for last.
#[cube]
pub fn settle(pending: &Pending, absmax: &[f32]) {
    #[unroll]
    for half in 0..2usize {
        let code = (pending.words[half] >> pending.shifts[half]) & 255u32;
        let scale = pending.scales[half];
        let decoded = absmax[1usize + code as usize] * scale + absmax[0];
        // A step beyond a row's last has no scale of scales.
        ptx::write_float(
            pending.place + comptime!((half * PLANE * 4) as u32),
            select(scale == 0.0f32, 0.0f32, decoded),
        );
    }
}

/// Waits for the next place and reads a unit's codes and scales: of each step, those of the upper row, then those of the lower.
#[cube]
pub fn read(
    ring: &mut Ring,
    codes: &mut Array<Vector<u32, Const<2>>>,
    scales: &mut Array<f32>,
    #[comptime] plan: TilePlan,
) {
    let lane = UNIT_POS as usize % PLANE;
    let (line, quarter) = (lane / 4, lane % 4);
    let place = ring.places + ring.to_read;
    let row = place + (line * ROW) as u32 + (quarter % 2 * 8) as u32;
    let of_scales = place + comptime!(STAGE_CODES as u32) + (line * STEPS * 4) as u32;
    #[unroll]
    for step in 0..STEPS {
        let part = place_of_part(comptime!(2 * step) + quarter / 2, line) as u32 * 16u32;
        #[unroll]
        for half in 0..2usize {
            codes[2 * step + half] = ptx::read_2_words(row + part + comptime!((half * TILE_ROWS / 2 * ROW) as u32));
            let scale = ptx::read_word(of_scales + comptime!((half * PLANE * 4 + step * 4) as u32));
            scales[2 * step + half] = f32::reinterpret(scale);
        }
    }
    ring.to_read = next_place(ring.to_read, plan);
}

/// Where a part of 16 bytes is in its row: four rows that are read together have theirs in different banks.
#[cube]
fn place_of_part(part: usize, line: usize) -> usize {
    part ^ (line % 4 * 2)
}

#[cube]
fn next_place(place: u32, #[comptime] plan: TilePlan) -> u32 {
    let next = place + comptime!(STAGE as u32);
    select(next == comptime!((plan.stages * STAGE) as u32), 0u32, next)
}

#[cube]
fn clamp_row(row: usize, rows: usize) -> usize {
    select(row < rows, row, rows - 1)
}
