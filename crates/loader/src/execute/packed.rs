//! Parameters that the files have quantised.

use super::{Run, quantize::refusal};
use crate::{LoadError, PlanRow, PlanSource, plan::PackedFill, quantization::parts::scales_of, windows::ShardReader};
use automodel_quant::{
    QuantError, Quantized4bit,
    format::{StoredTensor, read_parameter},
};
use std::{collections::HashMap, ops::Range};

impl Run<'_> {
    /// A parameter that is stored quantised, or a part of one. Its codes stay in the mapped file if the plan says so.
    pub(super) fn load_packed(&mut self, row: &PlanRow, packed: &PackedFill) -> Result<(), LoadError> {
        let (mut tensors, mut pages) = (HashMap::new(), Vec::new());
        for part in row.tensors() {
            let (data, read) = self.shards.read(part.shard, part.range.clone())?;
            let Some(dtype) = part.stored.of_quantized() else { continue };
            let shape = self.shards.shape(&part.tensor).unwrap_or_default();
            tensors.insert(part.tensor.as_str(), StoredTensor { dtype, shape, data });
            pages.push((part, read));
        }
        let refused = |error: QuantError| refusal(row, error);
        let stored = read_parameter(&packed.codes.tensor, |name| tensors.get(name).cloned()).map_err(refused)?;
        let weight = part_of(row, packed, &stored)?;
        self.residency.meter.note(row.bytes());
        if packed.mapped {
            self.shards.keep(packed.codes.shard);
        }
        let stays = |part: &PlanSource| packed.mapped && part.tensor == packed.codes.tensor;
        pages.into_iter().filter(|(part, _)| !stays(part)).for_each(|(_, pages)| pages.release());
        let mapped = row.mapped_bytes();
        self.report.mapped_bytes += mapped;
        self.report.copied_bytes += row.bytes().saturating_sub(mapped);
        self.take_quantized(row, weight)
    }
}

/// The part of a stored weight that a row reads: its blocks one run after another, nothing decoded but scales of scales where
/// the plan says so.
fn part_of(row: &PlanRow, packed: &PackedFill, stored: &Quantized4bit) -> Result<Quantized4bit, LoadError> {
    let PackedFill { shape, encoding, mapped, .. } = *packed;
    let runs = block_runs(row, packed, stored)?;
    let bytes_of = |run: &Range<usize>| run.start / 2..run.end.div_ceil(2);
    let codes = match runs.as_slice() {
        [run] if mapped => stored.packed().slice(bytes_of(run)),
        runs => runs.iter().map(|run| &stored.packed()[bytes_of(run)]).collect::<Vec<_>>().concat().into(),
    };
    let blocksize = encoding.blocksize;
    let blocks: Vec<_> = runs.iter().map(|run| run.start / blocksize.get()..blocksize.blocks(run.end)).collect();
    let absmax = scales_of(stored.absmax(), &blocks, encoding.double_quant);
    let (quant_type, dtype) = (stored.quant_type(), stored.dtype());
    Quantized4bit::from_parts(quant_type, blocksize, shape, dtype, codes, absmax).map_err(|error| refusal(row, error))
}

/// The runs of elements that the row reads, each of which begins with a block.
///
/// # Errors
/// [`LoadError::StalePlan`] if the file has another weight than when the plan was made.
fn block_runs(row: &PlanRow, packed: &PackedFill, stored: &Quantized4bit) -> Result<Vec<Range<usize>>, LoadError> {
    let stale = || LoadError::StalePlan {
        planned: format!("parameter `{}` as it was stored", row.parameter()),
        given: "files that were changed".into(),
    };
    let [rows, columns] = stored.shape();
    let encoding = packed.encoding;
    if stored.blocksize() != encoding.blocksize
        || stored.quant_type() != encoding.quant_type
        || packed.codes.walk.span().end > rows * columns
    {
        return Err(stale());
    }
    let mut runs: Vec<Range<usize>> = Vec::new();
    let Ok(()) = packed.codes.walk.for_each_run::<std::convert::Infallible>(&mut |start, length| {
        runs.push(start..start + length);
        Ok(())
    });
    Ok(runs)
}
