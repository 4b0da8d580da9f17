//! Kernels of one decode step over a static KV cache. The position is read on the device, so that a captured graph of these launches
//! is valid for every step.

use cubecl::prelude::*;

use super::{AttendPlan, RotatePlan};

/// Vectors of keys or values that a unit loads at once.
const AT_ONCE: usize = 4;

/// Writes the position.
#[cube(launch_unchecked)]
pub(super) fn set_position(position: &mut [i32], value: u32) {
    position[0] = value as i32;
}

/// Applies the rotary embedding to queries and keys and appends keys and values to the caches. One element for each unit.
///
/// `q` is `[batch, heads, head_dim]`, `k` and `values` `[batch, kv_heads, head_dim]`, the caches `[batch, kv_heads, capacity, head_dim]`,
/// `cos` and `sin` `[positions, rotary_half]`.
#[cube(launch_unchecked)]
pub(super) fn rotate_and_append<F: Float>(
    q: &[F],
    k: &[F],
    values: &[F],
    cos: &[f32],
    sin: &[f32],
    position: &[i32],
    padding: &[i32],
    rotated: &mut [F],
    k_cache: &mut [F],
    v_cache: &mut [F],
    batch: u32,
    capacity: u32,
    #[comptime] plan: RotatePlan,
    #[define(F)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    let rows = comptime!(plan.heads + 2 * plan.kv_heads);
    let (row, element) = (at / plan.head_dim, at % plan.head_dim);
    let (sequence, head) = (row / rows, row % rows);
    let place = place_in(position, capacity as usize);
    if sequence < batch as usize {
        let before = padding[sequence] as usize;
        let rotary = select(before < place, place - before, 0usize);
        if head < plan.heads {
            let start = (sequence * plan.heads + head) * plan.head_dim;
            rotated[start + element] = rotated_element::<F>(q, start, element, cos, sin, rotary, plan);
        } else if head < comptime!(plan.heads + plan.kv_heads) {
            let row = sequence * plan.kv_heads + head - plan.heads;
            let value = rotated_element::<F>(k, row * plan.head_dim, element, cos, sin, rotary, plan);
            k_cache[(row * capacity as usize + place) * plan.head_dim + element] = value;
        } else {
            let row = sequence * plan.kv_heads + head - comptime!(plan.heads + plan.kv_heads);
            let value = values[row * plan.head_dim + element];
            v_cache[(row * capacity as usize + place) * plan.head_dim + element] = value;
        }
    }
}

/// One rotated element of a head that begins at `start`.
#[cube]
fn rotated_element<F: Float>(
    x: &[F],
    start: usize,
    element: usize,
    cos: &[f32],
    sin: &[f32],
    rotary: usize,
    #[comptime] plan: RotatePlan,
) -> F {
    let half = plan.rotary_half;
    let own = x[start + element];
    let mut rotated = own;
    if comptime!(half > 0) && element < comptime!(2 * half) {
        let (pair, is_second, partner) = if comptime!(plan.interleaved) {
            let is_second = element % 2 == 1usize;
            (element / 2, is_second, select(is_second, element - 1, element + 1))
        } else {
            let is_second = element >= half;
            let pair = select(is_second, element - half, element);
            (pair, is_second, select(is_second, pair, element + half))
        };
        let angle = rotary * half + pair;
        let other = f32::cast_from(x[start + partner]) * sin[angle];
        rotated = F::cast_from(f32::cast_from(own) * cos[angle] + select(is_second, other, -other));
    }
    rotated
}

/// Softmax attention of the queries that share a key-value head over one chunk of keys: each unit of the cube scores one key. `parts`
/// receives `[batch * heads, chunks, head_dim]` of unnormalised output, `stats` the maximum and the sum of exponentials of each.
#[cube(launch_unchecked)]
pub(super) fn attend<F: Float, V: Size>(
    q: &[F],
    k: &[Vector<F, V>],
    values: &[Vector<F, V>],
    position: &[i32],
    padding: &[i32],
    parts: &mut [f32],
    stats: &mut [f32],
    capacity: u32,
    #[comptime] plan: AttendPlan,
    #[define(F)] _dtype: ElemType,
) {
    let unit = UNIT_POS as usize;
    let (row, chunk) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let (sequence, first_key) = (row / plan.kv_heads, chunk * plan.units);
    let place = place_in(position, capacity as usize);
    let first_head = row * plan.group;
    let mut queries = Shared::<[f32]>::new_slice(comptime!(plan.group * plan.head_dim));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(plan.group * plan.units));
    let mut partial = Shared::<[f32]>::new_slice(plan.units);
    let mut results = Shared::<[f32]>::new_slice(plan.group);

    if first_key <= place && first_key + plan.units > first_visible(place, padding[sequence] as usize, plan) {
        let mut at = unit;
        while at < comptime!(plan.group * plan.head_dim) {
            queries[at] = f32::cast_from(q[first_head * plan.head_dim + at]) * comptime!(plan.scale.get());
            at += plan.units;
        }
        sync_cube();

        let key = first_key + unit;
        let is_visible = key <= place && key >= first_visible(place, padding[sequence] as usize, plan);
        let mut scores = Array::<f32>::new(plan.group);
        #[unroll]
        for g in 0..plan.group {
            scores[g] = 0.0f32;
        }
        let width = V::value().comptime();
        let vectors = comptime!(plan.head_dim / width);
        if is_visible {
            let start = (row * capacity as usize + key) * vectors;
            for round in 0..comptime!(vectors.div_ceil(AT_ONCE)) {
                let mut keys = Array::<Vector<F, V>>::new(AT_ONCE);
                #[unroll]
                for n in 0..AT_ONCE {
                    let vector = round * AT_ONCE + n;
                    keys[n] = k[start + select(vector < vectors, vector, vectors - 1)];
                }
                #[unroll]
                for n in 0..AT_ONCE {
                    let vector = round * AT_ONCE + n;
                    if vector < vectors {
                        #[unroll]
                        for i in 0..width {
                            let key = f32::cast_from(keys[n].extract(i));
                            #[unroll]
                            for g in 0..plan.group {
                                scores[g] += key * queries[g * plan.head_dim + vector * width + i];
                            }
                        }
                    }
                }
            }
        }
        #[unroll]
        for g in 0..plan.group {
            let mut score = scores[g];
            if comptime!(plan.softcap.is_some()) {
                let cap = comptime!(plan.softcap.map_or(1.0, |cap| cap.get()));
                score = (score / cap).tanh() * cap;
            }
            weights[g * plan.units + unit] = select(is_visible, score, f32::new(f32::MIN));
        }
        sync_cube();

        // The units of a lane group share a head.
        let lanes = comptime!(plan.units / plan.group);
        let (head, lane) = (unit / lanes, unit % lanes);
        let has_head = head < plan.group;
        let mut highest = f32::new(f32::MIN);
        if has_head {
            let mut at = lane;
            while at < plan.units {
                highest = higher(highest, weights[head * plan.units + at]);
                at += lanes;
            }
        }
        partial[unit] = highest;
        sync_cube();
        if has_head && lane == 0usize {
            for other in 0..lanes {
                highest = higher(highest, partial[unit + other]);
            }
            results[head] = highest;
        }
        sync_cube();
        let mut sum = 0.0f32;
        if has_head {
            highest = results[head];
            let mut at = lane;
            while at < plan.units {
                let score = weights[head * plan.units + at];
                let weight = select(score > f32::new(f32::MIN), (score - highest).exp(), 0.0f32);
                weights[head * plan.units + at] = weight;
                sum += weight;
                at += lanes;
            }
        }
        partial[unit] = sum;
        sync_cube();
        if has_head && lane == 0usize {
            let chunks = CUBE_COUNT_Y as usize;
            let mut total = 0.0f32;
            for other in 0..lanes {
                total += partial[unit + other];
            }
            let at = 2 * ((first_head + head) * chunks + chunk);
            stats[at] = highest;
            stats[at + 1] = total;
        }

        add_values::<F, V>(values, &weights, parts, row * capacity as usize, first_key, place, first_head, chunk, plan);
    }
}

/// The weighted sum of the values of a chunk, for each query head: each unit sums one vector of a value over every `sharing`-th key. A
/// masked key has weight 0.
#[cube]
#[allow(clippy::too_many_arguments, reason = "the indices of the chunk")]
fn add_values<F: Float, V: Size>(
    values: &[Vector<F, V>],
    weights: &Shared<[f32]>,
    parts: &mut [f32],
    first_row: usize,
    first_key: usize,
    place: usize,
    first_head: usize,
    chunk: usize,
    #[comptime] plan: AttendPlan,
) {
    let unit = UNIT_POS as usize;
    let chunks = CUBE_COUNT_Y as usize;
    let width = V::value().comptime();
    let vectors = comptime!(plan.head_dim / width);
    // Units that share a vector, and passes over the vectors if there are more vectors than units.
    let sharing = comptime!((plan.units / vectors).max(1));
    let rounds = comptime!(vectors.div_ceil(plan.units));
    let mut sums = Shared::<[f32]>::new_slice(comptime!(plan.units * width));
    let keys = place + 1 - first_key;
    let keys = select(keys < plan.units, keys, plan.units);
    #[unroll]
    for round in 0..rounds {
        let vector = round * plan.units + unit % comptime!(if rounds == 1 { vectors } else { plan.units });
        let first = unit / comptime!(if rounds == 1 { vectors } else { plan.units });
        let mut outputs = Array::<f32>::new(comptime!(plan.group * width));
        #[unroll]
        for i in 0..comptime!(plan.group * width) {
            outputs[i] = 0.0f32;
        }
        if first < sharing && vector < vectors {
            let mut key = first;
            while key < keys {
                let mut read = Array::<Vector<F, V>>::new(AT_ONCE);
                #[unroll]
                for n in 0..AT_ONCE {
                    let at = first_key + key + n * sharing;
                    read[n] = values[(first_row + select(at < place, at, place)) * vectors + vector];
                }
                #[unroll]
                for n in 0..AT_ONCE {
                    let at = key + n * sharing;
                    if at < keys {
                        #[unroll]
                        for g in 0..plan.group {
                            let weight = weights[g * plan.units + at];
                            #[unroll]
                            for i in 0..width {
                                outputs[g * width + i] += weight * f32::cast_from(read[n].extract(i));
                            }
                        }
                    }
                }
                key += comptime!(sharing * AT_ONCE);
            }
        }
        #[unroll]
        for g in 0..plan.group {
            // Other units may still be reading the previous sums.
            sync_cube();
            #[unroll]
            for i in 0..width {
                sums[i * plan.units + unit] = outputs[g * width + i];
            }
            sync_cube();
            if first == 0usize && vector < vectors {
                let start = ((first_head + g) * chunks + chunk) * plan.head_dim + vector * width;
                #[unroll]
                for i in 0..width {
                    let mut total = 0.0f32;
                    for other in 0..sharing {
                        total += sums[i * plan.units + unit + other * vectors];
                    }
                    parts[start + i] = total;
                }
            }
        }
    }
}

#[cube]
fn higher(a: f32, b: f32) -> f32 {
    select(a > b, a, b)
}

/// The position, clamped to the capacity: it is read from memory that anyone may write to.
#[cube]
fn place_in(position: &[i32], capacity: usize) -> usize {
    let place = position[0] as usize;
    select(place < capacity, place, capacity - 1)
}

/// The first position visible to a query at `place`: at the latest its own.
#[cube]
fn first_visible(place: usize, padding: usize, #[comptime] plan: AttendPlan) -> usize {
    let padding = select(padding < place, padding, place);
    if comptime!(plan.window.is_some()) {
        let window = comptime!(plan.window.unwrap_or(1));
        let first = select(place >= window, place + 1 - window, 0usize);
        select(first > padding, first, padding)
    } else {
        padding
    }
}

/// Combines the chunks of a head, one cube for each head: `out` is `[batch, heads, head_dim]`.
#[cube(launch_unchecked)]
pub(super) fn join<F: Float>(
    parts: &[f32],
    stats: &[f32],
    sinks: &[f32],
    position: &[i32],
    padding: &[i32],
    out: &mut [F],
    chunks: u32,
    capacity: u32,
    #[comptime] plan: AttendPlan,
    #[define(F)] _dtype: ElemType,
) {
    let head = CUBE_POS_X as usize;
    let heads = comptime!(plan.group * plan.kv_heads);
    let place = place_in(position, capacity as usize);
    let first = first_visible(place, padding[head / heads] as usize, plan) / plan.units;
    let last = place / plan.units;
    let start = head * chunks as usize;
    let mut highest = f32::new(f32::MIN);
    if comptime!(plan.sinks) {
        highest = sinks[head % heads];
    }
    for chunk in first..last + 1 {
        highest = higher(highest, stats[2 * (start + chunk)]);
    }
    let mut sum = 0.0f32;
    if comptime!(plan.sinks) {
        sum = (sinks[head % heads] - highest).exp();
    }
    for chunk in first..last + 1 {
        sum += stats[2 * (start + chunk) + 1] * (stats[2 * (start + chunk)] - highest).exp();
    }
    let mut element = UNIT_POS as usize;
    while element < plan.head_dim {
        let mut output = 0.0f32;
        for chunk in first..last + 1 {
            let weight = (stats[2 * (start + chunk)] - highest).exp();
            output += parts[(start + chunk) * plan.head_dim + element] * weight;
        }
        out[head * plan.head_dim + element] = F::cast_from(output / sum);
        element += plan.units;
    }
}
