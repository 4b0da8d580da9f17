//! The sampling kernel: one cube for each row, whose units read the row together.

#![allow(clippy::too_many_arguments, reason = "kernels take their buffers one by one")]
#![allow(clippy::collapsible_if, reason = "some conditions are comptime")]

mod few;
mod scores;
mod sums;
mod whole;

use cubecl::prelude::*;

use scores::{NOT_FINITE, Row, key_at, scale_for, scaled};
use sums::{Wide, highest_of_cube, wide};

/// Groups of the units of a cube, and the maximum of tokens collected when sampling from few candidates.
const GROUPS: usize = 256;

/// Sentinel for a row from which no token can be sampled.
pub(super) const NO_TOKEN: u32 = u32::MAX;

/// Which logits processors the kernel applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChoosePlan {
    /// Units of a cube: a power of two.
    pub units: usize,
    /// Whether there is a repetition penalty.
    pub penalised: bool,
    /// Whether a token is sampled; otherwise greedy decoding takes the highest logit.
    pub sampled: bool,
    /// Whether top-k removes tokens.
    pub top_k: bool,
    /// Whether top-p removes tokens.
    pub top_p: bool,
    /// Whether min-p removes tokens.
    pub min_p: bool,
    /// Whether few candidates are likely.
    pub few: bool,
}

impl ChoosePlan {
    /// Groups of units.
    fn groups(self) -> usize {
        groups_of(self.units)
    }
}

fn groups_of(units: usize) -> usize {
    GROUPS.min(units)
}

/// Maximum of candidates when sampling from few: half of the room, so that the other collected tokens rarely exceed it.
pub(super) fn reach(units: usize) -> u32 {
    (groups_of(units) / 2) as u32
}

/// Bytes of shared memory of a cube: 64 bits for each unit; key, id and weight for each collected token; and some for all.
pub(super) fn shared_bytes(units: usize) -> usize {
    8 * units + 16 * groups_of(units) + 16
}

/// Parameters of the logits processors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Settings {
    /// The repetition penalty.
    pub penalty: f32,
    /// The temperature.
    pub temperature: f32,
    /// Tokens that top-k keeps.
    pub top_k: u32,
    /// Maximum share of all weights that top-p removes, in units of 2^-32.
    pub surplus: u32,
    /// Minimum weight that min-p keeps.
    pub min_p: f32,
    /// Minimum of tokens to collect when sampling from few candidates.
    pub reach: u32,
}

/// Samples a token for each row of `logits` `[rows, vocab]` and writes it to `tokens` `[rows]`: `NO_TOKEN` if a logit is NaN or plus
/// infinity, or if none is above minus infinity. `seen` has a bit for each token of a row, in whole words, and the sampled one's is
/// set; it is read only with a penalty, and `uniforms`, of which `first_uniform` is that of the first row, only when sampling.
#[cube(launch_unchecked)]
pub(super) fn choose(
    logits: &[f32],
    tokens: &mut [u32],
    seen: &mut [u32],
    uniforms: &[u32],
    vocab: u32,
    first_uniform: u32,
    numbers: Settings,
    #[comptime] plan: ChoosePlan,
) {
    let place = CUBE_POS;
    let vocab = vocab as usize;
    let row = Row { logits: place * vocab, seen: place * vocab.div_ceil(32usize), vocab };
    let mut shared = Shared::<[Wide]>::new_slice(plan.units);
    let mut chosen = Shared::<[u32]>::new_slice(1usize);

    // Of equal keys the one with the lowest id counts as the highest.
    let mut own = wide(0u32, 0u32);
    let mut token = UNIT_POS as usize;
    while token < vocab {
        let key = key_at(logits, &*seen, row, token, numbers, plan);
        if key > own.extract(1usize) {
            own = wide(key, token as u32 ^ 0xffff_ffffu32);
        }
        token += plan.units;
    }
    let best = highest_of_cube(own, &mut shared, plan.units);
    let highest = best.extract(1usize);

    if comptime!(plan.sampled) {
        if UNIT_POS == 0u32 {
            chosen[0] = NO_TOKEN;
        }
        let scale = scale_for(highest, numbers.temperature);
        let highest = scaled(highest, scale);
        let uniform = uniforms[first_uniform as usize + place];
        if comptime!(plan.few) {
            let mut few = few::collect(logits, &*seen, row, own.extract(1usize), scale, numbers, &mut shared, plan);
            let mut has_all = Shared::<[u32]>::new_slice(1usize);
            if UNIT_POS == 0u32 {
                has_all[0] = few::has_all(&few, numbers, plan);
            }
            if workgroup_uniform_load(&has_all[0]) == 1u32 {
                few::draw(&mut few, scale, highest, uniform, numbers, &mut chosen, plan);
            } else {
                whole::draw(logits, &*seen, row, scale, highest, uniform, numbers, &mut shared, &mut chosen, plan);
            }
        } else {
            whole::draw(logits, &*seen, row, scale, highest, uniform, numbers, &mut shared, &mut chosen, plan);
        }
        sync_cube();
    }
    if UNIT_POS == 0u32 {
        let mut token = best.extract(0usize) ^ 0xffff_ffffu32;
        if comptime!(plan.sampled) {
            token = chosen[0];
        }
        if highest == 0u32 || highest == NOT_FINITE {
            token = NO_TOKEN;
        }
        tokens[place] = token;
        if comptime!(plan.penalised) {
            if token != NO_TOKEN {
                seen[row.seen + token as usize / 32usize] |= 1u32 << (token % 32u32);
            }
        }
    }
}
