//! From bytes in files to tensors on a device.

mod convert;
mod gather;
mod joint;
mod loaded;
mod mapped_files;
mod maps;
mod memory;
mod on_device;
mod prequantized;
mod quantize;
mod ties;

pub(crate) use convert::{FromFloat, NonFiniteCount, convert_bytes};
pub use loaded::{LoadedParameters, LoadedTensor};
pub use mapped_files::MappedFiles;

use crate::{
    CheckpointFiles, DtypeBytes, Encoding, EncodingBytes, LoadError, LoadPlan, LoadReport, NonFinite, PlanRow,
    PlanSource,
    dtype::float_size,
    plan::{device_label, window_elements},
};
use automodel_quant::{Absmax, Device4bit, NestedAbsmax, Quantized4bit};
use burn::tensor::{AllocationProperty, Bytes, Device, FloatDType};
use bytemuck::Pod;
use convert::search_bytes;
use gather::gather;
use half::{bf16, f16};
use loaded::Loaded4bit;
use maps::{MappedShard, Maps};
use memory::PeakMeter;
use std::{collections::HashSet, ops::Range, time::Instant};

/// Runs `$body` with `$type` being the Rust type of a float dtype.
macro_rules! with_float {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            burn::tensor::FloatDType::F64 => {
                type $type = f64;
                $body
            }
            burn::tensor::FloatDType::F32 | burn::tensor::FloatDType::Flex32 => {
                type $type = f32;
                $body
            }
            burn::tensor::FloatDType::F16 => {
                type $type = half::f16;
                $body
            }
            burn::tensor::FloatDType::BF16 => {
                type $type = half::bf16;
                $body
            }
        }
    };
}
pub(crate) use with_float;

/// How far loading has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// Bytes of parameters, as they are on the device, that are done.
    pub bytes_done: u64,
    /// Bytes of all parameters, [`LoadPlan::target_bytes`].
    pub bytes_total: u64,
    /// The parameter that was just finished.
    pub parameter: &'a str,
}

/// Loads what `plan` says from `files` onto `device`, shard after shard, and calls `progress` after each parameter.
///
/// Values are converted straight from the mapped files into the memory they stay in; pages that were read are given back, so
/// that host memory stays below [`LoadPlan::peak_bytes`]. NaN and infinite values are no error but reported.
///
/// # Mapped files
/// Parameters whose row says `mapped` are pages of the file for as long as they live. A process that truncates the file
/// meanwhile makes the next access fail with SIGBUS, and one that overwrites it in place changes the weights. Replacing the
/// file by renaming another over it, as downloads and [`crate::save_pretrained`] do, is harmless.
/// [`LoadedParameters::mapped_files`] tell whether that happened; set [`crate::LoadOptions::zero_copy`] to false where files
/// are edited in place.
///
/// # Errors
/// [`LoadError::StalePlan`] if the plan belongs to another device or other files, [`LoadError::DuplicateTensor`] if two shards
/// have a needed tensor with different values, [`LoadError::ShardChanged`] if a file
/// was changed since its header was read, [`LoadError::MappedFileChanged`] if it was changed while it was loaded,
/// [`LoadError::Io`] if it cannot be mapped.
pub fn execute(
    plan: &LoadPlan,
    files: &CheckpointFiles,
    device: &Device,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(LoadedParameters, LoadReport), LoadError> {
    check_plan(plan, files, device)?;
    let sources = plan.rows.iter().flat_map(|row| row.sources.iter().chain(&row.companions));
    let needed: HashSet<&str> = sources.map(|source| source.tensor.as_str()).collect();
    files.compare_copies(|tensor| needed.contains(tensor))?;
    let start = Instant::now();
    let mut run = Run {
        plan,
        device,
        maps: Maps::new(files),
        in_flight: 0,
        behind: None,
        handed: Vec::new(),
        unchecked: Vec::new(),
        loaded: LoadedParameters::default(),
        report: report_of(plan),
        meter: PeakMeter::start(),
    };
    run.make_room()?;
    let tied = ties::compare(plan, &mut run.maps, &mut run.report)?;

    let following: HashSet<&str> = tied.iter().map(|(parameter, _)| parameter.as_str()).collect();
    let own = |row: &&PlanRow| row.tied_to.is_none() && !following.contains(row.parameter.as_str());
    let mut order: Vec<&PlanRow> = plan.rows.iter().filter(own).collect();
    order.sort_by_key(|row| row.sources.first().map(|source| (source.shard, source.range.start, row.joint_scales)));
    let skipped: u64 = plan.target_bytes.saturating_sub(order.iter().map(|row| row.bytes).sum());
    let mut bytes_done = skipped;
    for rows in order.chunk_by(|row, next| joint::are_parts_of_one(row, next)) {
        match rows {
            [row] if !row.joint_scales => run.load(row)?,
            rows => run.load_parts(rows)?,
        }
        for row in rows {
            bytes_done += row.bytes;
            progress(Progress { bytes_done, bytes_total: plan.target_bytes, parameter: &row.parameter });
        }
    }
    quantize::release(run.behind.take());
    run.finish_device()?;
    for row in &plan.rows {
        if let Some(to) = &row.tied_to {
            run.loaded.share(&row.parameter, to);
        }
    }
    for (parameter, to) in &tied {
        run.loaded.share(parameter, to);
    }
    run.loaded.watch(run.maps.finish()?);
    run.report.measured_peak_bytes = run.meter.peak_bytes();
    run.report.seconds = start.elapsed().as_secs_f64();
    Ok((run.loaded, run.report))
}

/// A plan is only as good as the headers it was made from.
fn check_plan(plan: &LoadPlan, files: &CheckpointFiles, device: &Device) -> Result<(), LoadError> {
    if plan.device != *device {
        return Err(LoadError::StalePlan { planned: device_label(&plan.device), given: device_label(device) });
    }
    for source in plan.rows.iter().flat_map(|row| row.sources.iter().chain(&row.companions)) {
        let same = files.tensors().get(&source.tensor).is_some_and(|info| {
            info.shard == source.shard && info.range == source.range && info.dtype == source.stored
        });
        if !same {
            let planned = format!("a checkpoint where tensor `{}` lies elsewhere", source.tensor);
            return Err(LoadError::StalePlan { planned, given: files.directory().display().to_string() });
        }
    }
    Ok(())
}

fn report_of(plan: &LoadPlan) -> LoadReport {
    LoadReport {
        missing: plan.missing.iter().map(|entry| entry.parameter.clone()).collect(),
        unexpected: plan.unexpected.clone(),
        ignored: plan.ignored.iter().map(|(tensor, _)| tensor.clone()).collect(),
        warnings: plan.warnings.clone(),
        planned_peak_bytes: plan.peak_bytes,
        ..LoadReport::default()
    }
}

struct Run<'a> {
    plan: &'a LoadPlan,
    device: &'a Device,
    maps: Maps<'a>,
    /// Bytes handed to a device that may not have taken them yet.
    in_flight: u64,
    /// Parts of files that a device may still read, whose pages are given back when it has taken all.
    handed: Vec<(MappedShard, Range<u64>)>,
    /// The window that was quantised last, whose pages are given back while the next one is quantised.
    behind: Option<quantize::Window>,
    /// Weights that the device quantised, of which it is not known yet whether all elements were finite.
    unchecked: Vec<(String, Device4bit)>,
    loaded: LoadedParameters,
    report: LoadReport,
    meter: PeakMeter,
}

impl Run<'_> {
    /// What an earlier model has left of the device's memory is given back: pools keep it for tensors of the same sizes.
    fn make_room(&mut self) -> Result<(), LoadError> {
        if *self.device != Device::flex() {
            self.wait_for_device()?;
            self.device.memory_cleanup();
        }
        Ok(())
    }

    fn load(&mut self, row: &PlanRow) -> Result<(), LoadError> {
        match row.encoding {
            Some(encoding) => self.load_quantized(row, encoding),
            None => {
                quantize::release(self.behind.take());
                self.load_dense(row)
            }
        }
    }

    fn load_quantized(&mut self, row: &PlanRow, encoding: Encoding) -> Result<(), LoadError> {
        if encoding.prequantized {
            let weight = self.prequantized(row, encoding)?;
            return self.take_quantized(row, encoding, weight);
        }
        let weight = self.plain(row, encoding)?;
        if !encoding.double_quant {
            return self.take_plain(row, encoding, weight);
        }
        let scales = Absmax::Nested(NestedAbsmax::quantize(&weight.scales(row)?));
        self.take_scaled(row, encoding, weight, scales)
    }

    /// A weight of the host for whatever device this is.
    fn take_quantized(&mut self, row: &PlanRow, encoding: Encoding, weight: Quantized4bit) -> Result<(), LoadError> {
        let in_place = *self.device == Device::flex();
        let weight = if in_place { Loaded4bit::Host(weight) } else { Loaded4bit::Device(self.moved(&weight)?.into()) };
        self.loaded.insert_quantized(&row.parameter, weight);
        self.count_quantized(row, encoding);
        Ok(())
    }

    fn load_dense(&mut self, row: &PlanRow) -> Result<(), LoadError> {
        let bytes = if row.mapped { self.mapped(row)? } else { self.copied(row)? };
        let in_place = *self.device == Device::flex();
        if !in_place {
            self.send(row.bytes)?;
        }
        self.loaded.insert(&row.parameter, LoadedTensor::new(row, bytes, self.device, in_place)?);
        self.meter.note(row.bytes);
        self.count(row);
        Ok(())
    }

    /// The range of the mapped file, not copied.
    fn mapped(&mut self, row: &PlanRow) -> Result<Bytes, LoadError> {
        let source = row.sources.first().ok_or_else(|| inconsistent(row))?;
        let tensor = self.maps.shard(source.shard)?.tensor(source).ok_or_else(|| inconsistent(row))?;
        let elements = source.walk.contiguous().ok_or_else(|| inconsistent(row))?;
        let size = float_size(row.target);
        let (start, end) = (elements.start * size, elements.end * size);
        if end > tensor.len() {
            return Err(inconsistent(row));
        }
        let bytes = tensor.slice(start..end);
        if self.plan.check_finite {
            let found = with_float!(row.target, T => search_bytes::<T>(&bytes, 0));
            self.note(row, found);
        }
        self.maps.keep(source.shard);
        self.report.mapped_bytes += row.bytes;
        Ok(Bytes::from_shared(bytes, AllocationProperty::Other))
    }

    /// A buffer of its own, filled from the mapped files window by window.
    fn copied(&mut self, row: &PlanRow) -> Result<Bytes, LoadError> {
        let elements = usize::try_from(row.bytes).map_err(|_| inconsistent(row))? / float_size(row.target);
        self.report.copied_bytes += row.bytes;
        // Integers of the same size, because zeroed memory for them comes from the system without being touched here.
        Ok(match row.target {
            FloatDType::F64 => Bytes::from_elems(self.filled::<u64, f64>(row, elements)?),
            FloatDType::F32 | FloatDType::Flex32 => Bytes::from_elems(self.filled::<u32, f32>(row, elements)?),
            FloatDType::F16 => Bytes::from_elems(self.filled::<u16, f16>(row, elements)?),
            FloatDType::BF16 => Bytes::from_elems(self.filled::<u16, bf16>(row, elements)?),
        })
    }

    fn filled<Raw, T>(&mut self, row: &PlanRow, elements: usize) -> Result<Vec<Raw>, LoadError>
    where
        Raw: Pod + Default,
        T: FromFloat<f64> + FromFloat<f32> + FromFloat<f16> + FromFloat<bf16>,
    {
        let mut buffer = vec![Raw::default(); elements];
        let mut rest = bytemuck::cast_slice_mut::<Raw, T>(&mut buffer);
        let (mut found, mut at) = (NonFiniteCount::default(), 0);
        for source in &row.sources {
            let length = source.walk.numel();
            let (target, behind) = rest.split_at_mut_checked(length).ok_or_else(|| inconsistent(row))?;
            found = found.and(self.read(row, source, target, at)?);
            (rest, at) = (behind, at + length as u64);
        }
        self.note(row, found);
        Ok(buffer)
    }

    /// The mapped bytes of a source of floats, which its view was checked to stay within, and their dtype.
    fn open(
        &mut self,
        row: &PlanRow,
        source: &PlanSource,
    ) -> Result<(MappedShard, bytes::Bytes, FloatDType), LoadError> {
        let shard = self.maps.shard(source.shard)?;
        let tensor = shard.tensor(source).ok_or_else(|| inconsistent(row))?;
        let stored = source.stored.float().ok_or_else(|| inconsistent(row))?;
        if source.walk.span().end > tensor.len() / float_size(stored) {
            return Err(inconsistent(row));
        }
        Ok((shard, tensor, stored))
    }

    /// Fills `target` with one source, whose first element is the `at`-th of the parameter.
    fn read<T>(
        &mut self,
        row: &PlanRow,
        source: &PlanSource,
        target: &mut [T],
        at: u64,
    ) -> Result<NonFiniteCount, LoadError>
    where
        T: FromFloat<f64> + FromFloat<f32> + FromFloat<f16> + FromFloat<bf16>,
    {
        let (shard, tensor, stored) = self.open(row, source)?;
        let size = float_size(stored);
        let limit = window_elements(self.plan.max_bytes_in_flight, source.stored);
        let mut found = NonFiniteCount::default();
        source.walk.for_each_window(limit, &mut |first, window| {
            let part = target.get_mut(first..first + window.numel()).ok_or_else(|| inconsistent(row))?;
            let at = at + first as u64;
            found = found.and(with_float!(stored, S => gather::<S, T>(&tensor, window, part, at)));
            self.meter.note((window.numel() * size.max(size_of::<T>())) as u64);
            let span = window.span();
            let byte = |element: usize| source.range.start + (element * size) as u64;
            shard.release(byte(span.start)..byte(span.end));
            Ok(())
        })?;
        Ok(found)
    }

    /// Makes room for bytes that are handed to the device next: no more than the plan allows are on their way at once.
    fn send(&mut self, bytes: u64) -> Result<(), LoadError> {
        if self.in_flight.saturating_add(bytes) > self.plan.max_bytes_in_flight {
            self.wait_for_device()?;
        }
        self.in_flight = self.in_flight.saturating_add(bytes);
        Ok(())
    }

    /// Waits until the device has taken everything, so that the host's copies are gone.
    fn wait_for_device(&mut self) -> Result<(), LoadError> {
        self.in_flight = 0;
        self.device
            .sync()
            .map_err(|source| LoadError::Device { device: device_label(self.device), source: source.into() })?;
        self.handed.drain(..).for_each(|(shard, range)| shard.release(range));
        Ok(())
    }

    fn note(&mut self, row: &PlanRow, found: NonFiniteCount) {
        if let NonFiniteCount { count, first: Some(first_index), overflowed, .. } = found {
            self.report.non_finite.push(NonFinite { parameter: row.parameter.clone(), count, first_index, overflowed });
        }
    }

    fn count_quantized(&mut self, row: &PlanRow, encoding: Encoding) {
        let encodings = &mut self.report.encodings;
        match encodings.iter_mut().find(|entry| entry.encoding == encoding) {
            Some(entry) => (entry.parameters, entry.bytes) = (entry.parameters + 1, entry.bytes + row.bytes),
            None => encodings.push(EncodingBytes { encoding, parameters: 1, bytes: row.bytes }),
        }
    }

    fn count(&mut self, row: &PlanRow) {
        let dtypes = &mut self.report.dtypes;
        let (stored, target) = (row.stored, row.target);
        let known = dtypes.iter().position(|entry| entry.stored == stored && entry.target == target);
        let position = known.unwrap_or_else(|| {
            dtypes.push(DtypeBytes { stored, target, parameters: 0, bytes: 0 });
            dtypes.len() - 1
        });
        dtypes[position].parameters += 1;
        dtypes[position].bytes += row.bytes;
    }
}

/// The error for a row whose parts do not fit each other, as after a change to the plan's public fields.
fn inconsistent(row: &PlanRow) -> LoadError {
    LoadError::StalePlan {
        planned: format!("parameter `{}` as it was planned", row.parameter),
        given: "a changed row".into(),
    }
}
