//! The score of a token and its sort key.

use cubecl::prelude::*;

use super::{ChoosePlan, Settings};

/// The key of a logit that is NaN or plus infinity: above all others.
pub(super) const NOT_FINITE: u32 = u32::MAX;

/// A row of logits.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Row {
    /// Index of its first logit.
    pub logits: usize,
    /// Index of its first word of `seen`.
    pub seen: usize,
    /// Number of logits.
    pub vocab: usize,
}

/// The key of a token's logit after the repetition penalty; 0 for minus infinity, which masks the token.
#[cube]
pub(super) fn key_at(
    logits: &[f32],
    seen: &[u32],
    row: Row,
    token: usize,
    settings: Settings,
    #[comptime] plan: ChoosePlan,
) -> u32 {
    let mut score = logits[row.logits + token];
    // Bits, since compilers may assume that there is no NaN.
    let bits = u32::reinterpret(score);
    if comptime!(plan.penalised) {
        let is_seen = (seen[row.seen + token / 32usize] >> (token % 32usize) as u32) & 1u32;
        if is_seen == 1u32 {
            score = limited(select(score < 0.0f32, score * settings.penalty, score / settings.penalty));
        }
    }
    let is_bad = (bits & 0x7fff_ffffu32) > 0x7f80_0000u32 || bits == 0x7f80_0000u32;
    select(is_bad, NOT_FINITE, select(bits == 0xff80_0000u32, 0u32, key_of(score)))
}

/// An integer above 0 that orders like the finite floats; both zeros have the same.
#[cube]
pub(super) fn key_of(score: f32) -> u32 {
    let bits = u32::reinterpret(score);
    let bits = select(bits == 0x8000_0000u32, 0u32, bits);
    select(bits >> 31u32 == 1u32, bits ^ 0xffff_ffffu32, bits | 0x8000_0000u32)
}

/// The float of a key.
#[cube]
pub(super) fn score_of(key: u32) -> f32 {
    f32::reinterpret(select(key >> 31u32 == 1u32, key ^ 0x8000_0000u32, key ^ 0xffff_ffffu32))
}

/// Finite scores can overflow float32 when they are scaled; they are clamped to its range.
#[cube]
fn limited(score: f32) -> f32 {
    max(min(score, f32::MAX), f32::MIN)
}

/// How scores become weights.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Scale {
    /// Subtracted from a score before it is divided by the temperature.
    pub offset: f32,
    /// The divisor.
    pub temperature: f32,
    /// The highest score after that.
    pub highest: f32,
}

/// For the highest key of a row. If its quotient would overflow, differences to it are divided.
#[cube]
pub(super) fn scale_for(highest: u32, temperature: f32) -> Scale {
    let score = score_of(highest);
    let quotient = u32::reinterpret(score / temperature) & 0x7fff_ffffu32;
    let offset = select(quotient < 0x7f80_0000u32, 0.0f32, score);
    Scale { offset, temperature, highest: limited((score - offset) / temperature) }
}

/// The key after the temperature.
#[cube]
pub(super) fn scaled(key: u32, scale: Scale) -> u32 {
    let score = limited((score_of(key) - scale.offset) / scale.temperature);
    select(key == 0u32, 0u32, key_of(score))
}

/// The weight in 0..=1 of a key after the temperature.
#[cube]
pub(super) fn weight_of(key: u32, scale: Scale) -> f32 {
    // Far below the resolution of the sums, and far above where `exp` becomes inaccurate.
    let exponent = max(score_of(key) - scale.highest, -200.0f32);
    select(key == 0u32, 0.0f32, min(exponent.exp(), 1.0f32))
}
