//! Parameters that the files have in 4 bits.

use super::{Run, inconsistent, quantize::refusal};
use crate::{Encoding, LoadError, PlanRow, PlanSource, quantization::parts::scales_of};
use automodel_quant::{
    Quantized4bit,
    format::{StoredTensor, read_parameter},
};
use std::{collections::HashMap, ops::Range};

impl Run<'_> {
    /// A parameter stored in 4 bits, or a part of one. Its codes stay in the mapped file if the plan says so.
    pub(super) fn prequantized(&mut self, row: &PlanRow, encoding: Encoding) -> Result<Quantized4bit, LoadError> {
        let source = row.sources.first().ok_or_else(|| inconsistent(row))?;
        let mut tensors: HashMap<&str, StoredTensor> = HashMap::new();
        for part in row.companions.iter().chain([source]) {
            tensors.insert(&part.tensor, self.stored_tensor(row, part)?);
        }
        let stored =
            read_parameter(&source.tensor, |name| tensors.get(name).cloned()).map_err(|error| refusal(row, error))?;
        let weight = part_of(row, source, encoding, &stored)?;
        self.meter.note(row.bytes);
        if row.mapped {
            self.maps.keep(source.shard);
        }
        for part in row.companions.iter().chain((!row.mapped).then_some(source)) {
            self.maps.shard(part.shard)?.release(part.range.clone());
        }
        let mapped = row.mapped_bytes();
        self.report.mapped_bytes += mapped;
        self.report.copied_bytes += row.bytes.saturating_sub(mapped);
        Ok(weight)
    }

    fn stored_tensor(&mut self, row: &PlanRow, part: &PlanSource) -> Result<StoredTensor, LoadError> {
        let data = self.maps.shard(part.shard)?.tensor(part).ok_or_else(|| inconsistent(row))?;
        let dtype = part.stored.of_quantized().ok_or_else(|| inconsistent(row))?;
        let shape = self.maps.shape(&part.tensor).ok_or_else(|| inconsistent(row))?;
        Ok(StoredTensor { dtype, shape, data })
    }
}

/// The part of a stored weight that a row reads: its blocks one run after another, nothing decoded but scales of scales where
/// the plan says so.
fn part_of(
    row: &PlanRow,
    source: &PlanSource,
    encoding: Encoding,
    stored: &Quantized4bit,
) -> Result<Quantized4bit, LoadError> {
    let shape = <[usize; 2]>::try_from(row.shape.as_slice()).map_err(|_| inconsistent(row))?;
    let runs = block_runs(row, source, encoding, stored)?;
    let bytes_of = |run: &Range<usize>| run.start / 2..run.end.div_ceil(2);
    let packed = match runs.as_slice() {
        [run] if row.mapped => stored.packed().slice(bytes_of(run)),
        runs => runs.iter().map(|run| &stored.packed()[bytes_of(run)]).collect::<Vec<_>>().concat().into(),
    };
    let blocksize = encoding.blocksize;
    let blocks: Vec<_> = runs.iter().map(|run| run.start / blocksize.get()..blocksize.blocks(run.end)).collect();
    let absmax = scales_of(stored.absmax(), &blocks, encoding.double_quant);
    let (quant_type, dtype) = (stored.quant_type(), stored.dtype());
    Quantized4bit::from_parts(quant_type, blocksize, shape, dtype, packed, absmax).map_err(|error| refusal(row, error))
}

/// The runs of elements that the row reads, checked against the weight as it was stored: each begins with a block.
fn block_runs(
    row: &PlanRow,
    source: &PlanSource,
    encoding: Encoding,
    stored: &Quantized4bit,
) -> Result<Vec<Range<usize>>, LoadError> {
    let [rows, columns] = stored.shape();
    let mut runs: Vec<Range<usize>> = Vec::new();
    source.walk.for_each_run(&mut |start, length| {
        let end = start.checked_add(length).filter(|end| *end <= rows * columns).ok_or_else(|| inconsistent(row))?;
        let begins = |element: usize| Encoding::begins_block(encoding.blocksize, element);
        let joined = runs.last().is_none_or(|before| begins(before.end));
        if length == 0 || !begins(start) || !joined {
            return Err(inconsistent(row));
        }
        runs.push(start..end);
        Ok(())
    })?;
    let as_planned = stored.blocksize() == encoding.blocksize && stored.quant_type() == encoding.quant_type;
    if as_planned && !runs.is_empty() { Ok(runs) } else { Err(inconsistent(row)) }
}
