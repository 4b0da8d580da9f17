//! Floats to codes and scales, in one pass.

use cubecl::prelude::*;

use super::{CODES, TABLE_COPIES, Table, fill_table, shift_of};
use crate::table16::{QuantType, cpu::LEAST_SCALE};

/// Equal parts of the range -1 to 1, each with one bound between neighbouring values at most.
const BINS: usize = 64;
/// Units that look into a table together: half a plane with two words each, the width of shared memory with 32 banks.
const COPIES: usize = 16;

/// How a window of a weight is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct QuantizePlan {
    /// The table of codes.
    pub quant_type: QuantType,
    /// Units that share a block, a word of codes each: a power of two.
    pub units_per_block: usize,
    /// Units of a cube: a multiple of the above.
    pub units: usize,
    /// Words of codes of each unit.
    pub words: usize,
    /// Whether the last block is cut short.
    pub is_short: bool,
    /// Whether the units of a block are in one plane, whose units can exchange values.
    pub shuffles: bool,
}

impl QuantizePlan {
    /// Words that a cube codes.
    pub fn of_cube(&self) -> usize {
        self.units * self.words
    }
}

/// The scale of a block with an element that is not finite. A comparison finds it where compilers assume that there is no NaN.
pub(in super::super) const NOT_FINITE: f32 = -1.0;

/// Quantises `elements` values, which begin with a block. Each unit codes one word, after the units of a block have found its
/// scale. A block that is cut short is divided by its scale, others are multiplied with the reciprocal, as bitsandbytes does.
#[cube(launch_unchecked)]
pub(in super::super) fn quantize<F: Float, V: Size>(
    values: &[Vector<F, V>],
    packed: &mut [u32],
    absmax: &mut [f32],
    elements: u32,
    first_word: u32,
    first_block: u32,
    #[comptime] plan: QuantizePlan,
    #[define(F)] _dtype: ElemType,
) {
    // Of the two ways to find a code, one table is filled and looked into.
    let has_bins = comptime!(has_bins(plan.quant_type));
    let mut bounds = Shared::<[f32]>::new_slice(comptime!(if has_bins {
        1
    } else {
        Table::Bounds(plan.quant_type).entries().len() * TABLE_COPIES
    }));
    let mut bins = Shared::<[Vector<u32, Const<2>>]>::new_slice(comptime!(if has_bins { BINS * COPIES } else { 1 }));
    if has_bins {
        fill_bins(&mut bins, plan);
    } else {
        fill_table(&mut bounds, comptime!(Table::Bounds(plan.quant_type)));
    }
    let elements = elements as usize;
    let width = V::value().comptime();
    let parts = comptime!(CODES / width);
    let mut at = CUBE_POS * comptime!(plan.of_cube()) + UNIT_POS as usize;
    let mut next = Array::<Vector<F, V>>::new(parts);
    read_word::<F, V>(values, &mut next, at, elements);
    for _ in 0..plan.words {
        let first = at * CODES;
        let mut word_values = Array::<f32>::new(CODES);
        let mut highest = 0u32;
        #[unroll]
        for part in 0..parts {
            let vector = next[part];
            #[unroll]
            for i in 0..width {
                let value = f32::cast_from(vector.extract(i));
                word_values[part * width + i] = value;
                let bits = u32::reinterpret(value) & 0x7fff_ffffu32;
                highest = select(bits > highest, bits, highest);
            }
        }
        // On its way while this word is coded.
        read_word::<F, V>(values, &mut next, at + plan.units, elements);
        highest = highest_of_block(highest, plan);

        let block_end =
            (first / comptime!(plan.units_per_block * CODES) + 1usize) * comptime!(plan.units_per_block * CODES);
        let is_short = comptime!(plan.is_short) && block_end > elements;
        let magnitude = f32::reinterpret(highest);
        // A block of zeros has nothing to divide, and its least scale may be below what the device divides by.
        let divisor = select(highest == 0u32, 1.0f32, select(magnitude > LEAST_SCALE, magnitude, LEAST_SCALE));
        let reciprocal = 1.0f32 / divisor;
        let mut word = 0u32;
        #[unroll]
        for i in 0..CODES {
            let value = word_values[i];
            let mut scaled = value * reciprocal;
            if is_short {
                scaled = value / divisor;
            }
            let place = if has_bins {
                let entry = bins[bin_of(scaled) as usize * COPIES + UNIT_POS as usize % COPIES];
                entry.extract(0usize) + select(scaled > f32::reinterpret(entry.extract(1usize)), 1u32, 0u32)
            } else {
                search(scaled, &bounds)
            };
            let code = code_at(place, plan.quant_type);
            // The second half of an odd last byte has the code of zero, the bytes that fill the last word have none.
            let is_coded = first + comptime!(i / 2 * 2) < elements;
            word |= select(is_coded, code, 0u32) << comptime!(shift_of(i));
        }
        if first < elements {
            packed[first_word as usize + at] = word;
            if at.is_multiple_of(plan.units_per_block) {
                let least = select(is_short && magnitude < LEAST_SCALE, LEAST_SCALE, magnitude);
                let is_finite = highest < comptime!(f32::INFINITY.to_bits());
                absmax[first_block as usize + at / plan.units_per_block] = select(is_finite, least, NOT_FINITE);
            }
        }
        at += plan.units;
    }
}

/// The values of a word; zeros beyond the last.
#[cube]
fn read_word<F: Float, V: Size>(values: &[Vector<F, V>], next: &mut Array<Vector<F, V>>, at: usize, elements: usize) {
    let width = V::value().comptime();
    let parts = comptime!(CODES / width);
    #[unroll]
    for part in 0..parts {
        let mut vector = Vector::<F, V>::new(F::new(0.0));
        if at * CODES + comptime!(part * width) < elements {
            vector = values[at * parts + part];
        }
        next[part] = vector;
    }
}

/// How many bounds are below a value, in four steps.
#[cube]
fn search(scaled: f32, bounds: &Shared<[f32]>) -> u32 {
    let copy = UNIT_POS as usize % TABLE_COPIES;
    let mut place = 0u32;
    #[unroll]
    for step in 0..4u32 {
        let span = comptime!(8u32 >> step);
        let bound = bounds[(place + comptime!(span - 1)) as usize * TABLE_COPIES + copy];
        place += select(scaled > bound, span, 0u32);
    }
    place
}

/// The part of the range that a value is in. Rounding may lead to the neighbour of the right one, for values so near to their border
/// that no bound is between.
#[cube]
fn bin_of(scaled: f32) -> u32 {
    let place = u32::cast_from(scaled * comptime!(BINS as f32 / 2.0) + comptime!(BINS as f32 / 2.0));
    // The last part has its end, too, and what is not finite is in some part.
    select(place < comptime!(BINS as u32 - 1), place, comptime!(BINS as u32 - 1))
}

/// Whether every bound has a part of the range for itself, far from its borders.
fn has_bins(quant_type: QuantType) -> bool {
    let places = quant_type.encoder().bounds.map(|bound| (bound + 1.0) * BINS as f32 / 2.0);
    let is_apart = places.windows(2).all(|pair| pair[0].floor() < pair[1].floor());
    is_apart && places.iter().all(|place| (place - place.round()).abs() > 1e-2)
}

/// For each part of the range how many bounds are below it, and the bits of the bound within, or of the greatest number.
#[cube]
fn fill_bins(bins: &mut Shared<[Vector<u32, Const<2>>]>, #[comptime] plan: QuantizePlan) {
    let mut at = UNIT_POS as usize;
    while at < comptime!(BINS * COPIES) {
        let low = f32::cast_from((at / COPIES) as u32) * comptime!(2.0 / BINS as f32) - 1.0f32;
        let high = low + comptime!(2.0 / BINS as f32);
        let mut below = 0u32;
        let mut within = f32::new(f32::MAX);
        #[unroll]
        for i in 0..15usize {
            let bound = f32::new(comptime!(plan.quant_type.encoder().bounds[i]));
            below += select(bound < low, 1u32, 0u32);
            within = select(bound >= low && bound < high, bound, within);
        }
        let mut entry = Vector::<u32, Const<2>>::new(below);
        entry.insert(1usize, u32::reinterpret(within));
        bins[at] = entry;
        at += plan.units;
    }
    sync_cube();
}

/// The code at a place in the ascending order of values.
#[cube]
fn code_at(place: u32, #[comptime] quant_type: QuantType) -> u32 {
    if comptime!(is_ascending(quant_type)) {
        place
    } else {
        let half = select(place < 8u32, comptime!(order(quant_type, 0)), comptime!(order(quant_type, 8)));
        (half >> ((place & 7u32) * 4u32)) & 15u32
    }
}

fn is_ascending(quant_type: QuantType) -> bool {
    quant_type.encoder().order.is_sorted()
}

/// Eight codes in the order of their values, from a place on, four bits each.
fn order(quant_type: QuantType, first: usize) -> u32 {
    let codes = &quant_type.encoder().order[first..first + 8];
    codes.iter().enumerate().fold(0, |word, (place, code)| word | u32::from(*code) << (4 * place))
}

/// The highest number of the units that share a block, for each of them.
#[cube]
fn highest_of_block(own: u32, #[comptime] plan: QuantizePlan) -> u32 {
    let steps = comptime!(plan.units_per_block.ilog2());
    let mut highest = own;
    if comptime!(plan.shuffles) {
        #[unroll]
        for step in 0..steps {
            let other = plane_shuffle_xor(highest, comptime!(1u32 << step));
            highest = select(other > highest, other, highest);
        }
    } else {
        let unit = UNIT_POS as usize;
        let mut shared = Shared::<[u32]>::new_slice(plan.units);
        #[unroll]
        for step in 0..steps {
            shared[unit] = highest;
            sync_cube();
            let other = shared[unit ^ comptime!(1usize << step)];
            sync_cube();
            highest = select(other > highest, other, highest);
        }
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::has_bins;
    use crate::table16::QuantType;

    #[test]
    fn values_that_are_near_to_each_other_are_searched_for() {
        assert!(has_bins(QuantType::Nf4));
        // Zero has two codes, and the least value is a hundredth of the next.
        assert!(!has_bins(QuantType::Fp4));
    }
}
