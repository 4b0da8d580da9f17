//! Parameters in floats.

use super::{LoadedTensor, Run};
use crate::{
    LoadError, NonFinite, PlanRow,
    plan::{FloatPart, window_elements},
    windows::{
        DenseSink, FromAnyFloat, MappedShards, NonFiniteCount, Residency, ShardReader, Stretch, search_bytes, stream,
        with_float,
    },
};
use burn::tensor::{AllocationProperty, Bytes, Device, FloatDType};
use bytemuck::Pod;
use half::{bf16, f16};
use std::ops::Range;

impl Run<'_> {
    /// A range of the mapped file, not copied.
    pub(super) fn load_mapped(
        &mut self,
        row: &PlanRow,
        part: &FloatPart,
        elements: &Range<usize>,
    ) -> Result<(), LoadError> {
        let (source, size) = (&part.source, part.element_size());
        let byte = |element: usize| source.range.start + (element * size) as u64;
        let (bytes, _) = self.shards.read(source.shard, byte(elements.start)..byte(elements.end))?;
        if self.plan.check_finite {
            let found = with_float!(part.dtype, T => search_bytes::<T>(&bytes, 0));
            self.note(row, found);
        }
        self.shards.keep(source.shard);
        self.report.mapped_bytes += row.bytes();
        self.take_dense(row, Bytes::from_shared(bytes, AllocationProperty::Other))
    }

    /// A buffer of its own, filled from the mapped files window by window.
    pub(super) fn load_copied(
        &mut self,
        row: &PlanRow,
        parts: &[FloatPart],
        dtype: FloatDType,
    ) -> Result<(), LoadError> {
        self.report.copied_bytes += row.bytes();
        let limit = |part: &FloatPart| window_elements(self.plan.max_bytes_in_flight, part.dtype);
        let copy = Copy { parts, limit: &limit, shards: &mut self.shards, residency: &mut self.residency };
        // Integers of the same size, because zeroed memory for them comes from the system without being touched here.
        let (bytes, found) = match dtype {
            FloatDType::F64 => copy.filled::<u64, f64>()?,
            FloatDType::F32 | FloatDType::Flex32 => copy.filled::<u32, f32>()?,
            FloatDType::F16 => copy.filled::<u16, f16>()?,
            FloatDType::BF16 => copy.filled::<u16, bf16>()?,
        };
        self.note(row, found);
        self.take_dense(row, bytes)
    }

    /// A buffer of zeros.
    pub(super) fn load_zeros(&mut self, row: &PlanRow, dtype: FloatDType) -> Result<(), LoadError> {
        self.report.copied_bytes += row.bytes();
        let elements = row.shape().iter().product();
        let bytes = match dtype {
            FloatDType::F64 => Bytes::from_elems(vec![0_u64; elements]),
            FloatDType::F32 | FloatDType::Flex32 => Bytes::from_elems(vec![0_u32; elements]),
            FloatDType::F16 | FloatDType::BF16 => Bytes::from_elems(vec![0_u16; elements]),
        };
        self.take_dense(row, bytes)
    }

    fn take_dense(&mut self, row: &PlanRow, bytes: Bytes) -> Result<(), LoadError> {
        let in_place = *self.device == Device::flex();
        if !in_place {
            self.upload.send(row.bytes())?;
        }
        self.loaded.insert(row.parameter(), LoadedTensor::new(row, bytes, self.device, in_place)?);
        self.residency.meter.note(row.bytes());
        self.count_dense(row);
        Ok(())
    }

    fn note(&mut self, row: &PlanRow, found: NonFiniteCount) {
        if let NonFiniteCount { count, first: Some(first_index), overflowed, .. } = found {
            let parameter = row.parameter().to_owned();
            self.report.non_finite.push(NonFinite { parameter, count, first_index, overflowed });
        }
    }
}

struct Copy<'c, 's> {
    parts: &'c [FloatPart],
    /// The most elements of a window.
    limit: &'c dyn Fn(&FloatPart) -> usize,
    shards: &'c mut MappedShards<'s>,
    residency: &'c mut Residency,
}

impl Copy<'_, '_> {
    /// All parts one after another, and the count of NaN and infinite values.
    fn filled<Raw: Pod + Default + Send + Sync, T: FromAnyFloat>(self) -> Result<(Bytes, NonFiniteCount), LoadError> {
        debug_assert_eq!(size_of::<Raw>(), size_of::<T>());
        let mut buffer = vec![Raw::default(); self.parts.iter().map(FloatPart::numel).sum()];
        let (mut found, mut at) = (NonFiniteCount::default(), 0);
        for part in self.parts {
            let target = bytemuck::cast_slice_mut::<Raw, T>(&mut buffer);
            let (found, residency) = (&mut found, &mut *self.residency);
            let mut sink = DenseSink { dtype: part.dtype, target, found, residency };
            stream(self.shards, &Stretch::of(part, at, (self.limit)(part)), &mut sink)?;
            at += part.numel();
        }
        Ok((Bytes::from_elems(buffer), found))
    }
}
