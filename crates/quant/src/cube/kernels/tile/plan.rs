//! How a product on tensor cores is laid out.

use super::super::{Decoder, ScalePlan};

/// Codes of a row whose sum is multiplied with one scale: four units with two words each.
pub const STEP: usize = 64;
/// Steps of each row that a plane takes together: 128 bytes of codes.
pub const STEPS: usize = 4;
/// Rows of a weight that a plane takes together.
pub const TILE_ROWS: usize = 16;
/// Rows of activations that an instruction takes.
pub const TILE_COLUMNS: usize = 8;
/// Units of a plane: the instruction is of 32.
pub const PLANE: usize = 32;
/// Pairs of codes.
pub const PAIRS: usize = 256;
/// Bytes of the codes of a plane's rows and steps.
pub const STAGE_CODES: usize = TILE_ROWS * STEPS * STEP / 2;
/// Bytes of those codes and their scales.
pub const STAGE: usize = STAGE_CODES + TILE_ROWS * STEPS * 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TilePlan {
    /// How codes become values.
    pub decoder: Decoder,
    /// How scales are read.
    pub scales: ScalePlan,
    /// The type of activations.
    pub operand: Operand,
    /// Numbers of that type whose sum stands for a code: 1 rounds the table to the type, 2 has twice its bits.
    pub terms: usize,
    /// Tiles of rows of activations.
    pub column_tiles: usize,
    /// Planes that share the rows of a tile, each with other steps.
    pub splits: usize,
    /// Whether the planes together have a whole row at once, so that each needs the same activations for all rows.
    pub has_whole_rows: bool,
    /// Places for codes of each plane: those at hand, and those that were asked for.
    pub stages: usize,
    /// Units of a cube: a multiple of `splits` planes.
    pub units: usize,
}

/// What tensor cores multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    F16,
    Bf16,
}

impl Operand {
    pub fn ptx(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// A value rounded to the operand's type in the low half, and what is then missing in the high half.
    pub fn terms(self, value: f32) -> u32 {
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
    pub fn planes(&self) -> usize {
        self.units / PLANE
    }

    /// Rows of the weight that a cube has at once.
    pub fn rows_of_cube(&self) -> usize {
        TILE_ROWS * self.planes() / self.splits
    }

    /// Codes of a row that a cube has at once.
    pub fn chunk(&self) -> usize {
        self.splits * STEPS * STEP
    }

    /// Whether the sums of a tile have another place than those of the tile before, and need no second barrier.
    pub fn alternates(&self) -> bool {
        self.column_tiles <= 2
    }

    /// Bytes of the memory that the units of a cube share: the table, codes and scales, sums.
    pub fn shared_bytes(&self) -> usize {
        self.table_bytes() + self.planes() * self.stages * STAGE + 4 * self.all_sums()
    }

    /// Bytes of the table of pairs.
    pub fn table_bytes(&self) -> usize {
        4 * PAIRS * self.terms * PLANE
    }

    /// Numbers that the planes of a cube have for each other after a tile.
    pub fn sums(&self) -> usize {
        self.units * self.column_tiles * 4
    }

    /// Capacity in numbers.
    pub fn all_sums(&self) -> usize {
        if self.alternates() { 2 * self.sums() } else { self.sums() }
    }
}
