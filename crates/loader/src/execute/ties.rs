//! Whether two parameters that should be tied are equal in the files.

use super::maps::Maps;
use crate::{
    LoadError, LoadPlan, LoadReport, PlanRow, PlanSource, TieDecision, TieOutcome, TieReport, plan::same_bytes_possible,
};

/// Compares what has to be compared, reports on all ties, and returns those that turned out equal: (parameter, to).
pub(super) fn compare(
    plan: &LoadPlan,
    maps: &mut Maps<'_>,
    report: &mut LoadReport,
) -> Result<Vec<(String, String)>, LoadError> {
    let mut equal = Vec::new();
    for tie in &plan.ties {
        let outcome = match tie.decision {
            TieDecision::Share => TieOutcome::Shared,
            TieDecision::Apart => TieOutcome::DifferentAndApart,
            TieDecision::ToCompare => match (plan.row(&tie.parameter), plan.row(&tie.to)) {
                (Some(a), Some(b)) if equal_rows(plan, maps, a, b)? => TieOutcome::EqualAndShared,
                _ => TieOutcome::DifferentAndApart,
            },
        };
        if outcome == TieOutcome::EqualAndShared {
            equal.push((tie.parameter.clone(), tie.to.clone()));
        }
        if outcome == TieOutcome::DifferentAndApart {
            report.warnings.push(format!(
                "the config ties `{}` to `{}`, but the checkpoint has both with different values: they are not tied; \
                 its config.json should say `tie_word_embeddings`: false",
                tie.parameter, tie.to
            ));
        }
        report.tied.push(TieReport { parameter: tie.parameter.clone(), to: tie.to.clone(), outcome });
    }
    Ok(equal)
}

fn equal_rows(plan: &LoadPlan, maps: &mut Maps<'_>, a: &PlanRow, b: &PlanRow) -> Result<bool, LoadError> {
    if !same_bytes_possible(a, b) {
        return Ok(false);
    }
    for (a, b) in a.sources.iter().zip(&b.sources) {
        if !equal_tensors(plan, maps, a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares whole tensors window by window, and gives the pages back.
fn equal_tensors(plan: &LoadPlan, maps: &mut Maps<'_>, a: &PlanSource, b: &PlanSource) -> Result<bool, LoadError> {
    if a.tensor == b.tensor {
        return Ok(true);
    }
    let (shard_a, shard_b) = (maps.shard(a.shard)?, maps.shard(b.shard)?);
    let (Some(bytes_a), Some(bytes_b)) = (shard_a.tensor(a), shard_b.tensor(b)) else { return Ok(false) };
    let window = usize::try_from(plan.max_bytes_in_flight.max(1 << 20) / 2).unwrap_or(usize::MAX);
    let mut at = 0u64;
    for (window_a, window_b) in bytes_a.chunks(window).zip(bytes_b.chunks(window)) {
        let equal = window_a == window_b;
        let next = at + window_a.len() as u64;
        shard_a.release(a.range.start + at..a.range.start + next);
        shard_b.release(b.range.start + at..b.range.start + next);
        if !equal {
            return Ok(false);
        }
        at = next;
    }
    Ok(true)
}
