//! Parameters that are quantised while they are read.

use super::{Run, convert::FromFloat, gather::gather, inconsistent, maps::MappedShard, with_float};
use crate::{
    Encoding, LoadError, PlanRow, PlanSource, dtype::float_size, plan::quantized_window_elements, strided::Walk,
};
use automodel_quant::{Element, Elements, QuantError, Quantized4bit, WeightDtype, table16::Quantizer};
use burn::tensor::FloatDType;
use bytemuck::Pod;
use half::{bf16, f16};
use std::ops::Range;

/// A range of a mapped file.
pub(super) type Window = (MappedShard, Range<u64>);

impl Run<'_> {
    /// The 4-bit form of a parameter with scales in float32, window by window: of its full form no more than a window is in
    /// memory.
    pub(super) fn quantized(&mut self, row: &PlanRow, encoding: Encoding) -> Result<Quantized4bit, LoadError> {
        let shape = <[usize; 2]>::try_from(row.shape.as_slice()).map_err(|_| inconsistent(row))?;
        let dtype = weight_dtype(row.target).ok_or_else(|| inconsistent(row))?;
        let refused = |error: QuantError| refusal(row, error);
        let mut quantizer = Quantizer::new(encoding.quant_type, encoding.blocksize, shape, dtype).map_err(refused)?;
        let mut at = 0;
        for source in &row.sources {
            match dtype {
                WeightDtype::Float32 => self.quantize::<f32>(row, source, at, &mut quantizer)?,
                WeightDtype::Float16 => self.quantize::<f16>(row, source, at, &mut quantizer)?,
                WeightDtype::BFloat16 => self.quantize::<bf16>(row, source, at, &mut quantizer)?,
            }
            at += source.walk.numel();
        }
        let weight = quantizer.finish().map_err(refused)?;
        self.meter.note(row.bytes);
        self.report.copied_bytes += row.bytes;
        Ok(weight)
    }

    /// Quantises one source, whose first element is the `at`-th of the parameter.
    fn quantize<T>(
        &mut self,
        row: &PlanRow,
        source: &PlanSource,
        at: usize,
        quantizer: &mut Quantizer,
    ) -> Result<(), LoadError>
    where
        T: Element + FromFloat<f64> + FromFloat<f32> + FromFloat<f16> + FromFloat<bf16>,
        for<'e> Elements<'e>: From<&'e [T]>,
    {
        let (shard, tensor, stored) = self.open(row, source)?;
        let size = float_size(stored);
        let limit = quantized_window_elements(self.plan.max_bytes_in_flight, source.stored);
        let mut buffer = Vec::new();
        source.walk.for_each_window(limit, &mut |first, window| {
            let span = window.span();
            let byte = |element: usize| source.range.start + (element * size) as u64;
            let (start, end) = (byte(span.start), byte(span.end));
            let behind = self.behind.replace((shard.clone(), start..end));
            let quantize = || {
                window.for_each_part(limit, &mut |skipped, part| {
                    let elements = match in_place::<T>(&tensor, stored, part) {
                        Some(elements) => elements,
                        None => {
                            buffer.resize(part.numel(), T::ZERO);
                            with_float!(stored, S => gather::<S, T>(&tensor, part, &mut buffer, 0));
                            &buffer
                        }
                    };
                    let filled = quantizer.fill(at + first + skipped, Elements::from(elements));
                    filled.map_err(|error| refusal_of_source(row, source, error))
                })
            };
            let manage_pages = || {
                // What comes next in the file is most likely read next, by this parameter or another.
                shard.will_need(end..end.saturating_add(end - start));
                release(behind);
            };
            let (quantized, ()) = rayon::join(quantize, manage_pages);
            self.meter.sample();
            quantized
        })
    }
}

/// Gives back the pages of a window.
pub(super) fn release(window: Option<Window>) {
    if let Some((shard, range)) = window {
        shard.release(range);
    }
}

/// The elements of a part that lie in the file as they are quantised.
fn in_place<'t, T: Element + Pod>(tensor: &'t [u8], stored: FloatDType, part: &Walk) -> Option<&'t [T]> {
    let elements = part.contiguous().filter(|_| weight_dtype(stored) == Some(T::DTYPE))?;
    let bytes = tensor.get(elements.start.checked_mul(size_of::<T>())?..elements.end.checked_mul(size_of::<T>())?)?;
    bytemuck::try_cast_slice(bytes).ok()
}

pub(super) fn weight_dtype(dtype: FloatDType) -> Option<WeightDtype> {
    match dtype {
        FloatDType::F32 => Some(WeightDtype::Float32),
        FloatDType::F16 => Some(WeightDtype::Float16),
        FloatDType::BF16 => Some(WeightDtype::BFloat16),
        _ => None,
    }
}

fn refusal_of_source(row: &PlanRow, source: &PlanSource, error: QuantError) -> LoadError {
    match error {
        QuantError::NonFinite { index, value } => {
            LoadError::NonFiniteWeight { parameter: row.parameter.clone(), tensor: source.tensor.clone(), index, value }
        }
        other => refusal(row, other),
    }
}

pub(super) fn refusal(row: &PlanRow, error: QuantError) -> LoadError {
    LoadError::Quantization { parameter: row.parameter.clone(), source: error.into() }
}
