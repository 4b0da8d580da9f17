//! The kernels in CubeCL. Eight codes are one 32-bit word, so that no device has to compute with bytes.

mod chosen;
mod decode;
mod dense;
mod encode;
mod product;
mod ptx;
mod tile;
mod units;

pub(super) use chosen::{ChosenPlan, copy_words};
pub(super) use decode::dequantize;
pub(super) use dense::{DensePlan, few_rows, few_rows_chosen};
pub(super) use encode::{QuantizePlan, quantize};
pub(super) use product::{MatvecPlan, matvec, matvec_chosen};
pub(super) use tile::{Operand, PLANE, STEP, STEPS, TILE_COLUMNS, TILE_ROWS, TilePlan, tiles};
pub(super) use units::RowUnits;

use cubecl::prelude::*;

use units::{add_units, zeros};

use crate::table16::{NESTED_BLOCKSIZE, QuantType};

/// Codes in a word.
pub(super) const CODES: usize = 8;

/// Copies of a table that a cube keeps: neighbouring units look into different banks of its memory.
pub(super) const TABLE_COPIES: usize = 32;

/// Entries of the table that codes of nested scales are looked up in.
const MAP: usize = 256;

/// Where the scales of nested scales begin: before them are the offset and the table.
pub(super) const NESTED_HEAD: usize = 1 + MAP;

/// Where the code at `place` is in a word: of each byte the high half comes first.
const fn shift_of(place: usize) -> u32 {
    (place / 2 * 8 + (1 - place % 2) * 4) as u32
}

/// How codes become values: kernels are compiled for a decoder, whatever representation needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decoder {
    /// Four bits, looked up in a table.
    Table(QuantType),
}

impl Decoder {
    /// The value of each code.
    fn table(self) -> &'static [f32; 16] {
        match self {
            Self::Table(quant_type) => quant_type.decode_table(),
        }
    }
}

/// A table of at most sixteen numbers that kernels look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Table {
    /// The values of codes.
    Values(Decoder),
    /// The bounds between neighbouring values.
    Bounds(QuantType),
}

impl Table {
    fn entries(self) -> &'static [f32] {
        match self {
            Self::Values(decoder) => decoder.table(),
            Self::Bounds(quant_type) => &quant_type.encoder().bounds,
        }
    }
}

/// The table in the memory of the cube.
#[cube]
fn shared_table(#[comptime] table: Table) -> Shared<[f32]> {
    let mut values = Shared::<[f32]>::new_slice(comptime!(table.entries().len() * TABLE_COPIES));
    fill_table(&mut values, table);
    values
}

/// Writes a table to the memory of the cube. The numbers are constants of the kernel; a cube has at least `TABLE_COPIES` units.
#[cube]
fn fill_table(values: &mut Shared<[f32]>, #[comptime] table: Table) {
    if UNIT_POS < comptime!(TABLE_COPIES as u32) {
        #[unroll]
        for entry in 0..comptime!(table.entries().len()) {
            values[entry * TABLE_COPIES + UNIT_POS as usize] = comptime!(table.entries()[entry]);
        }
    }
    sync_cube();
}

/// How scales are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScalePlan {
    /// Elements that share a scale.
    pub blocksize: usize,
    /// Whether scales are codes with scales of their own.
    pub nested: bool,
}

/// The scale of an element's block. Of nested scales `absmax` has the offset, the table of codes and the scales of scales, and
/// `codes` four codes in a word; otherwise `codes` is not looked at.
#[cube]
fn scale_of<S: Size>(absmax: &[Vector<f32, S>], codes: &[u32], element: usize, #[comptime] plan: ScalePlan) -> f32 {
    let block = element / plan.blocksize;
    if comptime!(plan.nested) {
        let code = (codes[block / 4] >> ((block % 4) as u32 * 8u32)) & 255u32;
        let (value, scale) = (absmax[1usize + code as usize], absmax[NESTED_HEAD + block / NESTED_BLOCKSIZE]);
        value.extract(0usize) * scale.extract(0usize) + absmax[0].extract(0usize)
    } else {
        absmax[block].extract(0usize)
    }
}
