//! Sampling from few candidates: they are collected, and each is compared with each.
//!
//! Sums are exact, so that the order in which units collect does not matter.

use cubecl::prelude::*;

use super::scores::{Row, Scale, key_at, scaled, weight_of};
use super::sums::{Wide, at_most, fixed, highest_of_cube, plus, share, sum_of_cube, wide};
use super::{ChoosePlan, Settings};

/// The collected tokens.
#[derive(CubeType)]
pub(super) struct Few {
    keys: Shared<[u32]>,
    tokens: Shared<[u32]>,
    weights: Shared<[Wide]>,
    /// Their number.
    count: u32,
    /// Sum of the weights of all tokens of the row, if needed.
    total: Wide,
    /// Sum of the weights of the tokens that were not collected.
    rest: Wide,
}

/// A key that at least `reach` tokens have or exceed, and rarely many more: from the highest key of each unit, the lowest of the `reach`
/// highest keys of groups of units.
#[cube]
fn least_key(own: u32, reach: u32, shared: &mut Shared<[Wide]>, #[comptime] plan: ChoosePlan) -> u32 {
    let unit = UNIT_POS as usize;
    let groups = comptime!(plan.groups());
    let parts = comptime!(plan.units / plan.groups());
    sync_cube();
    shared[unit] = wide(own, 0u32);
    sync_cube();
    let mut highest = 0u32;
    if unit < groups {
        #[unroll]
        for part in 0..parts {
            highest = max(highest, shared[unit + comptime!(part * plan.groups())].extract(1usize));
        }
    }
    sync_cube();
    shared[unit] = wide(highest, 0u32);
    sync_cube();
    let mut candidate = 0u32;
    if unit < groups {
        let mut above = 0u32;
        for other in 0..groups {
            above += select(shared[other].extract(1usize) > highest, 1u32, 0u32);
        }
        candidate = select(above < reach, highest ^ 0xffff_ffffu32, 0u32);
    }
    let least = highest_of_cube(wide(candidate, 0u32), shared, plan.units).extract(1usize) ^ 0xffff_ffffu32;
    max(least, 1u32)
}

/// Collects the candidates, and possibly some more tokens. `own` is the highest key of the unit, before the temperature.
#[cube]
pub(super) fn collect(
    logits: &[f32],
    seen: &[u32],
    row: Row,
    own: u32,
    scale: Scale,
    settings: Settings,
    shared: &mut Shared<[Wide]>,
    #[comptime] plan: ChoosePlan,
) -> Few {
    let mut keys = Shared::<[u32]>::new_slice(plan.groups());
    let mut tokens = Shared::<[u32]>::new_slice(plan.groups());
    let weights = Shared::<[Wide]>::new_slice(plan.groups());
    let counter = Shared::<[Atomic<u32>]>::new_slice(1usize);
    if UNIT_POS == 0u32 {
        counter[0].store(0u32);
    }
    let least = least_key(scaled(own, scale), settings.reach, shared, plan);
    let mut sum = wide(0u32, 0u32);
    let mut below = wide(0u32, 0u32);
    let mut token = UNIT_POS as usize;
    while token < row.vocab {
        let key = scaled(key_at(logits, seen, row, token, settings, plan), scale);
        if key >= least {
            let place = counter[0].fetch_add(1u32) as usize;
            if place < comptime!(plan.groups()) {
                keys[place] = key;
                tokens[place] = token as u32;
            }
        }
        if comptime!(!plan.top_k) {
            let weight = fixed(weight_of(key, scale));
            sum = plus(sum, weight);
            if key < least {
                below = plus(below, weight);
            }
        }
        token += plan.units;
    }
    if comptime!(!plan.top_k) {
        sum = sum_of_cube(sum, shared, plan.units);
        below = sum_of_cube(below, shared, plan.units);
    }
    let count = workgroup_uniform_load_atomic(&counter[0]);
    Few { keys, tokens, weights, count, total: sum, rest: below }
}

/// 1 if all candidates were collected, otherwise 0.
#[cube]
pub(super) fn has_all(few: &Few, settings: Settings, #[comptime] plan: ChoosePlan) -> u32 {
    let mut has_all = few.count <= comptime!(plan.groups() as u32);
    if comptime!(!plan.top_k) {
        has_all = has_all && at_most(few.rest, share(few.total, settings.surplus));
    }
    select(has_all, 1u32, 0u32)
}

/// Samples one of the collected tokens.
#[cube]
pub(super) fn draw(
    few: &mut Few,
    scale: Scale,
    highest: u32,
    uniform: u32,
    settings: Settings,
    chosen: &mut Shared<[u32]>,
    #[comptime] plan: ChoosePlan,
) {
    let unit = UNIT_POS as usize;
    let count = few.count as usize;
    let mut key = 0u32;
    let mut token = 0u32;
    if unit < count {
        key = few.keys[unit];
        token = few.tokens[unit];
    }
    let weight = weight_of(key, scale);
    let own = fixed(weight);
    let mut is_kept = unit < count;
    if comptime!(plan.top_k) {
        let mut above = 0u32;
        for other in 0..count {
            above += select(few.keys[other] > key, 1u32, 0u32);
        }
        is_kept = is_kept && above < settings.top_k;
    }
    store(few, own, is_kept);
    if comptime!(plan.top_p) {
        let mut total = wide(0u32, 0u32);
        let mut up_to = few.rest;
        for other in 0..count {
            let (its_key, its_weight) = (few.keys[other], few.weights[other]);
            total = plus(total, its_weight);
            if its_key < key || (its_key == key && few.tokens[other] <= token) {
                up_to = plus(up_to, its_weight);
            }
        }
        if comptime!(!plan.top_k) {
            total = few.total;
        }
        is_kept = is_kept && !at_most(up_to, share(total, settings.surplus));
    }
    if comptime!(plan.min_p) {
        is_kept = is_kept && (key == highest || weight >= settings.min_p);
    }
    if comptime!(plan.top_p || plan.min_p) {
        store(few, own, is_kept);
    }
    let mut total = wide(0u32, 0u32);
    let mut before = wide(0u32, 0u32);
    for other in 0..count {
        let its_weight = few.weights[other];
        total = plus(total, its_weight);
        if few.tokens[other] < token {
            before = plus(before, its_weight);
        }
    }
    let target = share(total, uniform);
    if is_kept && at_most(before, target) && !at_most(plus(before, own), target) {
        chosen[0] = token;
    }
}

/// Writes the weight of the unit's token, or zero if it is not a candidate.
#[cube]
fn store(few: &mut Few, own: Wide, is_kept: bool) {
    let unit = UNIT_POS as usize;
    sync_cube();
    if unit < few.count as usize {
        let mut weight = wide(0u32, 0u32);
        if is_kept {
            weight = own;
        }
        few.weights[unit] = weight;
    }
    sync_cube();
}
