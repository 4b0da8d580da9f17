//! Bytes of weights that a decode step reads.

use automodel::Summary;
use automodel::loader::{LoadPlan, PlanRow};
use automodel::registry::spec::ModelSpec;
use automodel::registry::weights::ParameterRole;
use std::collections::BTreeMap;

/// Bytes of all weights that decoding one token reads. Embedding tables of tokens and positions do not count, unless the output head is
/// tied to the token embedding. Of the experts only those that a token is routed to count.
///
/// `tied` are the parameters of the loaded model that share another's storage. `None` if a custom implementation has experts.
pub fn per_token(summary: &Summary, tied: &[(String, String)]) -> Option<u64> {
    let spec = summary.prepared.lowered.spec.as_ref();
    let plan = &summary.plan;
    let mut experts: BTreeMap<usize, u64> = BTreeMap::new();
    let mut bytes = 0u64;
    for row in &plan.rows {
        let shared = tied.iter().find(|(parameter, _)| *parameter == row.parameter()).map(|(_, to)| to);
        match (row.role(), shared) {
            (ParameterRole::ExpertProjection, None) => {
                *experts.entry(layer(row.parameter())?).or_default() += row.bytes()
            }
            (ParameterRole::Embedding | ParameterRole::PositionEmbedding, None) => {}
            (_, None) => bytes = bytes.saturating_add(row.bytes()),
            // A parameter tied to a token embedding that is not itself an embedding reads all of it.
            (_, Some(to)) => bytes = bytes.saturating_add(lookup_table(plan, to).map_or(0, |table| table.bytes())),
        }
    }
    for (layer, all) in experts {
        bytes = bytes.saturating_add(used(spec?, layer, all)?);
    }
    Some(bytes)
}

fn lookup_table<'p>(plan: &'p LoadPlan, parameter: &str) -> Option<&'p PlanRow> {
    plan.row(parameter).filter(|row| row.role() == ParameterRole::Embedding)
}

/// The part of a layer's expert weights that one token is routed to.
fn used(spec: &ModelSpec, layer: usize, bytes: u64) -> Option<u64> {
    let moe = spec.backbone.layers.get(layer)?.feed_forwards().find_map(|feed| feed.moe())?;
    let (used, of) = (moe.num_experts_per_tok as u128, moe.num_experts as u128);
    u64::try_from((u128::from(bytes) * used).checked_div(of)?).ok()
}

/// The layer number in `model.layers.3.mlp...`.
fn layer(parameter: &str) -> Option<usize> {
    let mut parts = parameter.split('.').skip_while(|part| *part != "layers");
    parts.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbered_in_the_path() {
        assert_eq!(layer("model.layers.12.mlp.experts.3.up_proj.weight"), Some(12));
        assert_eq!(layer("model.norm.weight"), None);
    }
}
