//! One shard, written under a temporary name and given its own at the end.

use super::layout::{Group, PlannedShard};
use crate::{
    LoadError, QuantizationConfig,
    dtype::weight_dtype,
    plan::{FloatPart, PlanSource},
    quantization::Matrix,
    save::shard_file::{NewTensor, ShardFile},
    strided::Walk,
    windows::{CopySink, FromAnyFloat, HostSink, PlainShards, Residency, Stretch, stream},
};
use automodel_quant::{Element, Elements, QuantError, QuantWeight, Quantizer, WeightDtype, files};
use automodel_registry::weights::{SourcePiece, ViewOp};
use half::{bf16, f16};
use std::{fs, io::Write, path::Path};

/// Bytes that are read at a time.
const WINDOW_BYTES: usize = 8 << 20;

/// Writes `shard` to `path` and calls `done` after each tensor of the source.
pub(super) fn write(
    shard: &PlannedShard<'_>,
    path: &Path,
    config: &QuantizationConfig,
    source: &mut PlainShards<'_>,
    done: &mut dyn FnMut(&Group<'_>),
) -> Result<(), LoadError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = ShardFile::create(partial.into(), shard.header_room)?;
    // Tensors whose length was not known beforehand come last.
    let mut last = Vec::new();
    for group in &shard.groups {
        match group.matrix {
            None => copy(group, source, &mut file)?,
            Some(matrix) => {
                let quantized = quantize(group, matrix, config, source)?;
                for (planned, (name, tensor)) in group.tensors.iter().zip(files::write(group.source, &quantized)) {
                    let tensor = NewTensor { name, dtype: planned.dtype, shape: tensor.shape, data: tensor.data };
                    match planned.place {
                        Some(place) => file.put(&tensor, place)?,
                        None => last.push(tensor),
                    }
                }
            }
        }
        done(group);
    }
    let mut place = shard.fixed_bytes;
    for tensor in &last {
        file.put(tensor, place)?;
        place += tensor.data.len() as u64;
    }
    let partial = file.path().to_owned();
    file.finish()?;
    fs::rename(&partial, path).map_err(|source| LoadError::io("rename", &partial, source))
}

/// Copies a tensor as it is.
fn copy(group: &Group<'_>, source: &mut PlainShards<'_>, file: &mut ShardFile) -> Result<(), LoadError> {
    let Some(tensor) = group.tensors.first() else { return Ok(()) };
    file.begin(&tensor.name, tensor.dtype, &tensor.shape, tensor.place.unwrap_or_default(), tensor.bytes)?;
    let walk = Walk::all(usize::try_from(tensor.bytes).unwrap_or(usize::MAX));
    let (shard, range) = (group.info.shard, &group.info.range);
    let bytes = Stretch { shard, range, element_size: 1, walk: &walk, limit: WINDOW_BYTES, at: 0 };
    let write = |bytes: &[u8]| file.write_all(bytes).map_err(|source| file.failed(source));
    stream(source, &bytes, &mut CopySink(write))
}

/// Reads and quantises a matrix.
fn quantize(
    group: &Group<'_>,
    matrix: Matrix,
    config: &QuantizationConfig,
    source: &mut PlainShards<'_>,
) -> Result<QuantWeight, LoadError> {
    let refused =
        |source: QuantError| LoadError::Unquantizable { tensor: group.source.to_owned(), source: source.into() };
    let Some(part) = part_of(group, matrix) else {
        return Err(refused(QuantError::InvalidShape { shape: matrix.shape }));
    };
    let dtype = weight_dtype(part.dtype);
    let mut quantizer = Quantizer::new(config.scheme, matrix.shape, dtype).map_err(refused)?;
    match dtype {
        WeightDtype::Float32 => fill::<f32>(&part, source, &mut quantizer, &refused)?,
        WeightDtype::Float16 => fill::<f16>(&part, source, &mut quantizer, &refused)?,
        WeightDtype::BFloat16 => fill::<bf16>(&part, source, &mut quantizer, &refused)?,
    }
    quantizer.finish().map_err(refused)
}

/// The tensor as it is quantised; `None` for tensors that are not matrices of floats, which are never selected.
fn part_of(group: &Group<'_>, matrix: Matrix) -> Option<FloatPart> {
    let ops = if matrix.transposed { vec![ViewOp::Transpose(0, 1)] } else { Vec::new() };
    let view = SourcePiece::view(group.source, &group.info.shape, ops.clone()).strided().ok()?;
    let (tensor, walk) = (group.source.to_owned(), Walk::new(&view));
    let (shard, range, stored) = (group.info.shard, group.info.range.clone(), group.info.dtype);
    FloatPart::new(PlanSource { tensor, shard, range, stored, ops, walk })
}

fn fill<T>(
    part: &FloatPart,
    source: &mut PlainShards<'_>,
    quantizer: &mut Quantizer,
    refused: &(dyn Fn(QuantError) -> LoadError + Sync),
) -> Result<(), LoadError>
where
    T: Element + FromAnyFloat,
    for<'e> Elements<'e>: From<&'e [T]>,
{
    let limit = WINDOW_BYTES / part.element_size();
    let residency = &mut Residency::unmeasured();
    let mut sink = HostSink { dtype: part.dtype, limit, quantizer, buffer: Vec::<T>::new(), residency, refused };
    stream(source, &Stretch::of(part, 0, limit), &mut sink)
}
