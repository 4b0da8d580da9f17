//! The table of all pairs of codes, once for each unit of a plane: no two units look into the same bank.

use cubecl::prelude::*;

use super::{
    super::ptx,
    plan::{PAIRS, PLANE, TilePlan},
};

/// Where a unit finds its pairs.
#[derive(CubeType)]
pub struct Table {
    /// The table, in bytes.
    address: u32,
    /// What a unit adds.
    own: u32,
}

/// Writes the table: for each pair the first code in the low half of a word, for each unit one or two words that are added.
#[cube]
pub fn fill(#[comptime] plan: TilePlan) -> Table {
    let mut words = Shared::<[Vector<u32, Const<4>>]>::new_aligned_slice(comptime!(plan.table_bytes() / 16), 256usize);
    let lane = UNIT_POS % comptime!(PLANE as u32);
    let mut single = 0u32;
    #[unroll]
    for code in 0..16usize {
        let terms = comptime!(plan.operand.terms(plan.decoder.table()[code]));
        single = select(lane % 16u32 == comptime!(code as u32), terms, single);
    }
    // Units that write the same pair: each writes 16 bytes.
    let together = comptime!(PLANE * plan.terms / 4);
    let mut first_pair = UNIT_POS as usize / PLANE * comptime!(PLANE / together);
    while first_pair < PAIRS {
        let pair = first_pair as u32 + lane / comptime!(together as u32);
        let (first, second) = (plane_shuffle(single, pair / 16u32), plane_shuffle(single, pair % 16u32));
        let rounded = (first & 0xffffu32) | (second << 16u32);
        let mut written = Vector::<u32, Const<4>>::new(rounded);
        if comptime!(plan.terms == 2) {
            let missing = (first >> 16u32) | (second & 0xffff_0000u32);
            written.insert(1usize, missing);
            written.insert(3usize, missing);
        }
        words[pair as usize * together + lane as usize % together] = written;
        first_pair += comptime!(PLANE / together * plan.planes());
    }
    sync_cube();
    Table { address: ptx::shared_address(&words), own: lane * comptime!(4 * plan.terms as u32) }
}

/// The words for the pair of codes in a byte of a word.
#[cube]
pub fn look_up(table: &Table, word: u32, #[comptime] byte: usize, #[comptime] plan: TilePlan) -> Vector<u32, Const<2>> {
    if comptime!(plan.terms == 2) {
        // A pair takes 256 bytes, and what a unit adds is less.
        ptx::look_up_2(ptx::with_second_byte(table.own, word, byte) + table.address)
    } else {
        let value = ptx::look_up(ptx::byte_of(word, byte) * comptime!(4 * PLANE as u32) + (table.address + table.own));
        Vector::<u32, Const<2>>::new(value)
    }
}
