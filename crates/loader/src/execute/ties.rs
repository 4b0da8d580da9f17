//! Whether two parameters that should be tied are equal in the files.

use crate::{
    LoadError, LoadPlan, LoadReport, PlanRow, PlanSource, TieDecision, TieOutcome, TieReport,
    plan::same_bytes_possible,
    windows::{MappedShards, ShardReader},
};

/// Compares the undecided pairs, reports on all ties, and returns the equal pairs: (parameter, to).
pub(super) fn compare(
    plan: &LoadPlan,
    shards: &mut MappedShards<'_>,
    report: &mut LoadReport,
) -> Result<Vec<(String, String)>, LoadError> {
    let mut equal = Vec::new();
    for tie in &plan.ties {
        let outcome = match tie.decision {
            TieDecision::Share => TieOutcome::Shared,
            TieDecision::Apart => TieOutcome::DifferentAndApart,
            TieDecision::ToCompare => match (plan.row(&tie.parameter), plan.row(&tie.to)) {
                (Some(a), Some(b)) if equal_rows(plan, shards, a, b)? => TieOutcome::EqualAndShared,
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

fn equal_rows(plan: &LoadPlan, shards: &mut MappedShards<'_>, a: &PlanRow, b: &PlanRow) -> Result<bool, LoadError> {
    if !same_bytes_possible(a, b) {
        return Ok(false);
    }
    for (a, b) in a.sources().zip(b.sources()) {
        if !equal_tensors(plan, shards, a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares whole tensors window by window, and gives the pages back.
fn equal_tensors(
    plan: &LoadPlan,
    shards: &mut MappedShards<'_>,
    a: &PlanSource,
    b: &PlanSource,
) -> Result<bool, LoadError> {
    if a.tensor == b.tensor {
        return Ok(true);
    }
    let window = plan.max_bytes_in_flight.max(1 << 20) / 2;
    let (mut at, length) = (0u64, a.range.end - a.range.start);
    while at < length {
        let next = at.saturating_add(window).min(length);
        let range = |source: &PlanSource| source.range.start + at..source.range.start + next;
        let (bytes_a, pages_a) = shards.read(a.shard, range(a))?;
        let (bytes_b, pages_b) = shards.read(b.shard, range(b))?;
        let equal = bytes_a == bytes_b;
        pages_a.release();
        pages_b.release();
        if !equal {
            return Ok(false);
        }
        at = next;
    }
    Ok(true)
}
