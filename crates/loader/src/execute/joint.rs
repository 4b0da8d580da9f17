//! Double quantisation of weights that are parts of one tensor.

use super::Run;
use crate::{
    LoadError, PlanRow,
    plan::{Fill, Joint, QuantizedFill},
    quantization::parts::{JointScales, scales_of},
};

/// Whether two rows, one behind the other in the order of the files, are double-quantised as parts of one tensor.
pub(super) fn are_parts_of_one(row: &PlanRow, next: &PlanRow) -> bool {
    let tensor = |row: &PlanRow| row.sources().next().map(|source| (source.shard, source.range.start));
    row.has_joint_scales() && next.has_joint_scales() && tensor(row) == tensor(next)
}

/// A row with the blocks of a tensor that it is.
pub(super) fn as_part(row: &PlanRow) -> Option<(&PlanRow, &QuantizedFill, &Joint)> {
    match &row.fill {
        Fill::Quantized(fill) => Some((row, fill, fill.joint.as_ref()?)),
        _ => None,
    }
}

impl Run<'_> {
    /// Loads all parts of one tensor. Their codes are those of the tensor, whose scales are quantised when all are there.
    pub(super) fn load_parts(&mut self, rows: &[(&PlanRow, &QuantizedFill, &Joint)]) -> Result<(), LoadError> {
        let Some((_, _, first)) = rows.first() else { return Ok(()) };
        let (mut weights, mut scales) = (Vec::with_capacity(rows.len()), JointScales::new(first.of));
        for (row, fill, joint) in rows {
            let weight = self.quantize(row, fill)?;
            scales.put(&joint.blocks, &weight.scales(row)?);
            weights.push(weight);
        }
        let nested = scales.nested();
        for ((row, fill, joint), weight) in rows.iter().zip(weights) {
            let scales = scales_of(&nested, &joint.blocks, fill.encoding.double_quant);
            self.take_scaled(row, weight, scales)?;
        }
        Ok(())
    }
}
