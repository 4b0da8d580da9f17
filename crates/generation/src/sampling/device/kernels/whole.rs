//! Sampling from any number of candidates: thresholds are found bit by bit, with a pass over the row for each.

use cubecl::prelude::*;

use super::scores::{Row, Scale, key_at, scaled, weight_of};
use super::sums::{Wide, at_most, fixed, plus, share, sum_of_cube, sums_before, times, wide};
use super::{ChoosePlan, Settings};

/// The number of tokens with at least this key.
#[cube]
fn count_from(
    logits: &[f32],
    seen: &[u32],
    row: Row,
    least: u32,
    scale: Scale,
    settings: Settings,
    shared: &mut Shared<[Wide]>,
    #[comptime] plan: ChoosePlan,
) -> u32 {
    let mut count = 0u32;
    let mut token = UNIT_POS as usize;
    while token < row.vocab {
        let key = scaled(key_at(logits, seen, row, token, settings, plan), scale);
        count += select(key >= least, 1u32, 0u32);
        token += plan.units;
    }
    sum_of_cube(wide(0u32, count), shared, plan.units).extract(0usize)
}

/// The weights of tokens from the key `least` up to below `end`.
#[cube]
fn weights_between(
    logits: &[f32],
    seen: &[u32],
    row: Row,
    least: u32,
    end: u32,
    scale: Scale,
    settings: Settings,
    shared: &mut Shared<[Wide]>,
    #[comptime] plan: ChoosePlan,
) -> Wide {
    let mut sum = wide(0u32, 0u32);
    let mut token = UNIT_POS as usize;
    while token < row.vocab {
        let key = scaled(key_at(logits, seen, row, token, settings, plan), scale);
        if key >= least && key < end {
            sum = plus(sum, fixed(weight_of(key, scale)));
        }
        token += plan.units;
    }
    sum_of_cube(sum, shared, plan.units)
}

/// Samples a token of the row.
#[cube]
pub(super) fn draw(
    logits: &[f32],
    seen: &[u32],
    row: Row,
    scale: Scale,
    highest: u32,
    uniform: u32,
    settings: Settings,
    shared: &mut Shared<[Wide]>,
    chosen: &mut Shared<[u32]>,
    #[comptime] plan: ChoosePlan,
) {
    let mut least = 0u32;
    if comptime!(plan.top_k) {
        for bit in 0..32u32 {
            let bound = least | (0x8000_0000u32 >> bit);
            if count_from(logits, seen, row, bound, scale, settings, shared, plan) >= settings.top_k {
                least = bound;
            }
        }
    }
    least = max(least, 1u32);

    // The key at which top-p removes only the first tokens, and the sum of the weights of all lower keys.
    let mut cut = 0u32;
    let mut below = wide(0u32, 0u32);
    let mut surplus = wide(0u32, 0u32);
    if comptime!(plan.top_p) {
        let total = weights_between(logits, seen, row, least, 0xffff_ffffu32, scale, settings, shared, plan);
        surplus = share(total, settings.surplus);
        for bit in 0..32u32 {
            let bound = cut | (0x8000_0000u32 >> bit);
            let weights = weights_between(logits, seen, row, least, bound, scale, settings, shared, plan);
            if at_most(weights, surplus) {
                cut = bound;
                below = weights;
            }
        }
    }

    // From here on each unit processes neighbouring tokens.
    let each = row.vocab.div_ceil(plan.units);
    let first = min(UNIT_POS as usize * each, row.vocab);
    let end = min(first + each, row.vocab);
    let mut rank = 0u32;
    if comptime!(plan.top_p) {
        let mut ties = 0u32;
        for token in first..end {
            let key = scaled(key_at(logits, seen, row, token, settings, plan), scale);
            ties += select(key == cut, 1u32, 0u32);
        }
        let (before, _all) = sums_before(wide(0u32, ties), shared, plan.units);
        rank = before.extract(0usize);
    }
    let mut own = wide(0u32, 0u32);
    let mut ties = rank;
    for token in first..end {
        let key = scaled(key_at(logits, seen, row, token, settings, plan), scale);
        let weight = kept_weight(key, least, cut, below, surplus, ties, scale, highest, settings, plan);
        own = plus(own, weight);
        ties += select(key == cut, 1u32, 0u32);
    }
    let (before, total) = sums_before(own, shared, plan.units);
    let target = share(total, uniform);
    if at_most(before, target) && !at_most(plus(before, own), target) {
        let mut sum = before;
        let mut ties = rank;
        let mut is_found = false;
        for token in first..end {
            let key = scaled(key_at(logits, seen, row, token, settings, plan), scale);
            let weight = kept_weight(key, least, cut, below, surplus, ties, scale, highest, settings, plan);
            sum = plus(sum, weight);
            ties += select(key == cut, 1u32, 0u32);
            if !is_found && !at_most(sum, target) {
                chosen[0] = token as u32;
                is_found = true;
            }
        }
    }
}

/// The weight of a token after top-p, if `ties` tokens before it have the key that top-p cuts at.
#[cube]
fn kept_weight(
    key: u32,
    least: u32,
    cut: u32,
    below: Wide,
    surplus: Wide,
    ties: u32,
    scale: Scale,
    highest: u32,
    settings: Settings,
    #[comptime] plan: ChoosePlan,
) -> Wide {
    let weight = weight_of(key, scale);
    let own = fixed(weight);
    let mut is_kept = key >= least;
    if comptime!(plan.top_p) {
        let up_to = plus(below, times(own, ties + 1u32));
        is_kept = is_kept && key >= cut && !(key == cut && at_most(up_to, surplus));
    }
    if comptime!(plan.min_p) {
        is_kept = is_kept && (key == highest || weight >= settings.min_p);
    }
    let mut kept = wide(0u32, 0u32);
    if is_kept {
        kept = own;
    }
    kept
}
