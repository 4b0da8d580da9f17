//! Weights that were just quantised, and double quantisation of those that are parts of one tensor.

use super::{Run, inconsistent, loaded::Loaded4bit, quantize::refusal};
use crate::{
    Encoding, LoadError, PlanRow,
    quantization::parts::{JointScales, QuantizedPlace, scales_of},
};
use automodel_quant::{Absmax, Device4bit, Linear4bit, Quantized4bit};
use automodel_registry::weights::SourcePiece;
use std::ops::Range;

/// A weight with scales in float32, where it was quantised.
pub(super) enum Plain4bit {
    Host(Quantized4bit),
    Device(Box<Device4bit>),
}

impl Plain4bit {
    /// Its scales on the host; the device's are known to be finite then.
    pub fn scales(&self, row: &PlanRow) -> Result<Vec<f32>, LoadError> {
        match self {
            Self::Host(weight) => Ok(weight.scales()),
            Self::Device(weight) => weight.scales().map_err(|error| refusal(row, error)),
        }
    }
}

/// Whether two rows, one behind the other in the order of the files, are double-quantised as parts of one tensor.
pub(super) fn are_parts_of_one(row: &PlanRow, next: &PlanRow) -> bool {
    let tensor = |row: &PlanRow| row.sources.first().map(|source| (source.shard, source.range.start));
    row.joint_scales && next.joint_scales && tensor(row) == tensor(next)
}

impl Run<'_> {
    /// Quantises a parameter where the device can, and on the host otherwise.
    pub(super) fn plain(&mut self, row: &PlanRow, encoding: Encoding) -> Result<Plain4bit, LoadError> {
        Ok(match self.device_quantizes(row, encoding) {
            true => Plain4bit::Device(Box::new(self.quantized_there(row, encoding)?)),
            false => Plain4bit::Host(self.quantized(row, encoding)?),
        })
    }

    pub(super) fn take_plain(&mut self, row: &PlanRow, encoding: Encoding, weight: Plain4bit) -> Result<(), LoadError> {
        match weight {
            Plain4bit::Host(weight) => self.take_quantized(row, encoding, weight),
            Plain4bit::Device(weight) => {
                self.unchecked.push((row.parameter.clone(), (*weight).clone()));
                self.take_layer(row, encoding, *weight, None)
            }
        }
    }

    /// Gives a weight other scales than its own.
    pub(super) fn take_scaled(
        &mut self,
        row: &PlanRow,
        encoding: Encoding,
        weight: Plain4bit,
        scales: Absmax,
    ) -> Result<(), LoadError> {
        match weight {
            Plain4bit::Host(weight) => {
                let weight = weight.with_absmax(scales).map_err(|error| refusal(row, error))?;
                self.take_quantized(row, encoding, weight)
            }
            Plain4bit::Device(weight) => self.take_layer(row, encoding, *weight, Some(&scales)),
        }
    }

    fn take_layer(
        &mut self,
        row: &PlanRow,
        encoding: Encoding,
        weight: Device4bit,
        scales: Option<&Absmax>,
    ) -> Result<(), LoadError> {
        let layer = Linear4bit::on_device(weight, scales, None).map_err(|error| refusal(row, error))?;
        self.loaded.insert_quantized(&row.parameter, Loaded4bit::Device(Box::new(layer)));
        self.count_quantized(row, encoding);
        Ok(())
    }

    /// Loads all parts of one tensor. Their codes are those of the tensor, whose scales are quantised when all are there.
    pub(super) fn load_parts(&mut self, rows: &[&PlanRow]) -> Result<(), LoadError> {
        let (mut parts, mut joint) = (Vec::with_capacity(rows.len()), None);
        for row in rows {
            let encoding = row.encoding.ok_or_else(|| inconsistent(row))?;
            let (blocks, all) = self.blocks(row, encoding)?;
            let weight = self.plain(row, encoding)?;
            let scales = weight.scales(row)?;
            let joint: &mut JointScales = joint.get_or_insert_with(|| JointScales::new(all));
            joint.put(&blocks, &scales).ok_or_else(|| inconsistent(row))?;
            parts.push((row, encoding, blocks, weight));
        }
        let Some(nested) = joint.map(|joint| joint.nested()) else { return Ok(()) };
        for (row, encoding, blocks, weight) in parts {
            let scales = scales_of(&nested, &blocks, encoding.double_quant);
            self.take_scaled(row, encoding, weight, scales)?;
        }
        Ok(())
    }

    /// The blocks that a row has of its tensor, and how many the tensor has.
    fn blocks(&self, row: &PlanRow, encoding: Encoding) -> Result<(Vec<Range<usize>>, usize), LoadError> {
        let [source] = row.sources.as_slice() else { return Err(inconsistent(row)) };
        let shape = self.maps.shape(&source.tensor).ok_or_else(|| inconsistent(row))?;
        let place = QuantizedPlace::of(&SourcePiece::view("", &shape, source.ops.clone()));
        let place = place.ok_or_else(|| inconsistent(row))?;
        let blocks = place.blocks(encoding.blocksize).ok_or_else(|| inconsistent(row))?;
        Ok((blocks, encoding.blocksize.blocks(place.elements())))
    }
}
