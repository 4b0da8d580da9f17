//! Parameters that the files have quantised.

use super::{Run, quantize::refusal};
use crate::{LoadError, PlanRow, PlanSource, plan::PackedFill, windows::ShardReader};
use automodel_quant::{Quantized, files::StoredTensor};
use std::collections::HashMap;

impl Run<'_> {
    /// A parameter that is stored quantised, or a part of one. Its codes stay in the mapped file if the plan says so.
    pub(super) fn load_packed(&mut self, row: &PlanRow, packed: &PackedFill) -> Result<(), LoadError> {
        let (mut tensors, mut pages) = (HashMap::new(), Vec::new());
        for part in row.tensors() {
            let (data, read) = self.shards.read(part.shard, part.range.clone())?;
            let shape = self.shards.shape(&part.tensor).unwrap_or_default();
            let tensor = StoredTensor { dtype: part.stored.as_safetensors(), shape, data };
            tensors.insert(part.tensor.as_str(), tensor);
            pages.push((part, read));
        }
        let stored = packed.stored.read(|name| tensors.get(name).cloned());
        let part = stored.and_then(|stored| match packed.mapped {
            true => stored.part(&packed.cut, packed.shape),
            false => stored.copy_part(&packed.cut, packed.shape),
        });
        let weight = part.map_err(|error| refusal(row, error))?;
        self.residency.meter.note(row.bytes());
        if packed.mapped {
            self.shards.keep(packed.codes.shard);
        }
        drop(tensors);
        let stays = |part: &PlanSource| packed.mapped && part.tensor == packed.codes.tensor;
        pages.into_iter().filter(|(part, _)| !stays(part)).for_each(|(_, pages)| pages.release());
        let mapped = row.mapped_bytes();
        self.report.mapped_bytes += mapped;
        self.report.copied_bytes += row.bytes().saturating_sub(mapped);
        self.take_quantized(row, Quantized::Host(weight))
    }
}
