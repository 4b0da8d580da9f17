//! A weight map met with the files that it is for.

use super::{alternatives, names::Names, ties::Ties};
use crate::CheckpointFiles;
use automodel_registry::weights::{ParameterSlot, WeightMap};
use std::{borrow::Cow, collections::HashMap};

/// Which tensors fill the parameters of a map in these files, and which parameters share storage.
pub(crate) struct Resolved<'a> {
    pub names: Names<'a>,
    /// With the pieces that these files have.
    pub map: Cow<'a, WeightMap>,
    pub ties: Ties,
}

impl<'a> Resolved<'a> {
    pub fn new(files: &'a CheckpointFiles, map: &'a WeightMap) -> Self {
        let names = Names::new(files.tensors(), map);
        let map = alternatives::as_in_files(map, &names);
        let ties = Ties::decide(&map, &slots_by_path(&map), &names);
        Self { names, map, ties }
    }
}

/// The parameters of a map by their path.
pub(super) fn slots_by_path(map: &WeightMap) -> HashMap<&str, &ParameterSlot> {
    map.parameters.iter().map(|slot| (slot.path.as_str(), slot)).collect()
}
