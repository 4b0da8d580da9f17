//! Parameters that the files have under other names, or packed otherwise, than the weight map says first.

use super::names::Names;
use automodel_registry::weights::{ParameterSlot, SourcePiece, WeightMap};
use std::{borrow::Cow, collections::HashSet};

/// The map with the pieces that these files have. Parameters whose tensors the files have as the map says stay; of the others those take
/// their alternatives that the files have, and the rest of their layers with them, so that what is missing is named as in its neighbours.
pub(super) fn as_in_files<'m>(map: &'m WeightMap, names: &Names<'_>) -> Cow<'m, WeightMap> {
    let is_there = |pieces: &[SourcePiece]| pieces.iter().any(|piece| names.resolve(&piece.tensor).is_some());
    // The tensors of all experts are a few.
    let mut looked_up: HashSet<&str> = HashSet::new();
    let mut there: HashSet<&str> = HashSet::new();
    for (path, pieces) in &map.alternatives {
        let Some(tensor) = pieces.first().map(|piece| piece.tensor.as_str()) else { continue };
        if looked_up.insert(tensor) && names.resolve(tensor).is_some() {
            there.insert(layer_of(path));
        }
    }
    if there.is_empty() {
        return Cow::Borrowed(map);
    }
    let alternative = |slot: &ParameterSlot| -> Option<Vec<SourcePiece>> {
        let pieces = map.alternatives.get(&slot.path)?;
        (there.contains(layer_of(&slot.path)) && !is_there(&slot.pieces)).then(|| pieces.clone())
    };
    let mut adapted = map.clone();
    for slot in &mut adapted.parameters {
        if let Some(pieces) = alternative(slot) {
            slot.pieces = pieces;
        }
    }
    Cow::Owned(adapted)
}

/// The part of a path that its layer has: `model.layers.0` of `model.layers.0.mlp.gate.weight`; nothing outside layers.
fn layer_of(path: &str) -> &str {
    let Some(start) = path.find(".layers.") else { return "" };
    let number = start + ".layers.".len();
    path[number..].find('.').map_or("", |length| &path[..number + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_by_their_number() {
        for (path, layer) in [
            ("model.layers.0.mlp.gate.weight", "model.layers.0"),
            ("model.layers.12.mlp.experts.3.up_proj.weight", "model.layers.12"),
            ("model.layers.12", ""),
            ("model.norm.weight", ""),
            ("lm_head.weight", ""),
        ] {
            assert_eq!(layer_of(path), layer, "{path}");
        }
    }
}
