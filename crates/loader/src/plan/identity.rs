//! A weight map without a model.

use crate::CheckpointFiles;
use automodel_registry::weights::{IgnoredTensors, ParameterRole, ParameterSlot, SourcePiece, WeightMap};

/// The map that loads every float tensor of `files` as it is, under its own name; scalars get the shape `[1]`. Tensors that
/// are not floats of 16, 32 or 64 bits are ignored.
pub fn identity_map(files: &CheckpointFiles) -> WeightMap {
    let mut map = WeightMap::default();
    for (name, info) in files.tensors() {
        if info.dtype.float().is_none() {
            let reason = format!("{} is not a float of 16 bits or more", info.dtype);
            map.ignored.push(IgnoredTensors { pattern: name.clone(), reason });
            continue;
        }
        let shape = if info.shape.is_empty() { vec![1] } else { info.shape.clone() };
        map.parameters.push(ParameterSlot {
            path: name.clone(),
            shape,
            role: ParameterRole::Other,
            keep_float32: false,
            pieces: vec![SourcePiece::whole(name.clone(), &info.shape)],
        });
    }
    map
}
