//! Weights that are quantised together because they are parts of one tensor.

use super::{Run, quantize::refusal};
use crate::{
    LoadError, PlanRow,
    plan::{Fill, JointPart, QuantizedFill},
};
use automodel_quant::Joint;

/// Whether two rows, one behind the other in the order of the files, are quantised together.
pub(super) fn are_parts_of_one(row: &PlanRow, next: &PlanRow) -> bool {
    let tensor = |row: &PlanRow| row.sources().next().map(|source| (source.shard, source.range.start));
    row.has_joint_scales() && next.has_joint_scales() && tensor(row) == tensor(next)
}

/// A row with the part of a tensor that it is.
pub(super) fn as_part(row: &PlanRow) -> Option<(&PlanRow, &QuantizedFill, &JointPart)> {
    match &row.fill {
        Fill::Quantized(fill) => Some((row, fill, fill.joint.as_ref()?)),
        _ => None,
    }
}

impl Run<'_> {
    /// Loads all parts of one tensor. Their codes are those of the tensor, whose scales are quantised when all are there.
    pub(super) fn load_parts(&mut self, rows: &[(&PlanRow, &QuantizedFill, &JointPart)]) -> Result<(), LoadError> {
        let Some((first, _, JointPart { cut, whole })) = rows.first() else { return Ok(()) };
        let mut joint = Joint::new(*whole, cut.shape()).map_err(|error| refusal(first, error))?;
        for (row, fill, part) in rows {
            let weight = self.quantize(row, fill, whole.separate())?;
            joint.add(part.cut.clone(), weight).map_err(|error| refusal(row, error))?;
        }
        let weights = joint.finish().map_err(|error| refusal(first, error))?;
        for ((row, ..), weight) in rows.iter().zip(weights) {
            self.take_quantized(row, weight)?;
        }
        Ok(())
    }
}
