//! Experts that the files have side by side in two tensors, where the weight map names them one by one.

use super::names::Names;
use automodel_registry::weights::{ParameterSlot, SourcePiece, StackedExperts, WeightMap};
use std::{borrow::Cow, collections::HashMap};

/// The map with the pieces of such mixtures as these files have them. Tensors that the files have under their own names stay.
pub(super) fn as_in_files<'m>(map: &'m WeightMap, names: &Names<'_>) -> Cow<'m, WeightMap> {
    let there = |mixture: &&StackedExperts| mixture.tensors().iter().any(|tensor| names.resolve(tensor).is_some());
    let stacked: HashMap<&str, &StackedExperts> =
        map.stacked_experts.iter().filter(there).map(|mixture| (mixture.module.as_str(), mixture)).collect();
    if stacked.is_empty() {
        return Cow::Borrowed(map);
    }
    let piece = |slot: &ParameterSlot| -> Option<SourcePiece> {
        let mixture = stacked.get(StackedExperts::module_of(&slot.path)?)?;
        let as_mapped = slot.pieces.iter().any(|piece| names.resolve(&piece.tensor).is_some());
        let shape_of = |tensor: &str| names.resolve(tensor).map(|(_, info)| &info.shape[..]);
        mixture.piece(&slot.path, shape_of).filter(|_| !as_mapped)
    };
    let mut adapted = map.clone();
    for slot in &mut adapted.parameters {
        if let Some(piece) = piece(slot) {
            slot.pieces = vec![piece];
        }
    }
    Cow::Owned(adapted)
}
