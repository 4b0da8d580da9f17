//! From bytes in files to tensors on a device.

mod dense;
mod joint;
mod loaded;
mod packed;
mod quantize;
mod ties;

pub use loaded::{LoadedParameters, LoadedTensor};

use crate::{
    CheckpointFiles, DeviceBytes, DtypeBytes, EncodingBytes, LoadError, LoadPlan, LoadReport, PlanRow,
    plan::{Fill, device_label},
    windows::{MappedShards, Residency, Upload},
};
use automodel_quant::DeviceWeight;
use burn::tensor::Device;
use std::{collections::HashSet, time::Instant};

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

/// Executes `plan`: loads `files` onto `device`, shard after shard, and calls `progress` after each parameter.
///
/// Values are converted straight from the mapped files into the memory they stay in; pages that were read are given back, so
/// that host memory stays below [`LoadPlan::peak_bytes`]. NaN and infinite values are reported, not errors.
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
    let needed: HashSet<&str> =
        plan.rows.iter().flat_map(PlanRow::tensors).map(|source| source.tensor.as_str()).collect();
    files.compare_copies(|tensor| needed.contains(tensor))?;
    let start = Instant::now();
    let mut run = Run {
        plan,
        device,
        shards: MappedShards::new(files),
        upload: Upload::new(device, plan.max_bytes_in_flight),
        residency: Residency::start(),
        unchecked: Vec::new(),
        loaded: LoadedParameters::default(),
        report: report_of(plan),
    };
    run.make_room()?;
    let tied = ties::compare(plan, &mut run.shards, &mut run.report)?;

    let following: HashSet<&str> = tied.iter().map(|(parameter, _)| parameter.as_str()).collect();
    let own = |row: &&PlanRow| row.tied_to().is_none() && !following.contains(row.parameter());
    let mut order: Vec<&PlanRow> = plan.rows.iter().filter(own).collect();
    order.sort_by_key(|row| {
        row.sources().next().map(|source| (source.shard, source.range.start, row.has_joint_scales()))
    });
    let skipped: u64 = plan.target_bytes.saturating_sub(order.iter().map(|row| row.bytes()).sum());
    let mut bytes_done = skipped;
    for rows in order.chunk_by(|row, next| joint::are_parts_of_one(row, next)) {
        let parts: Vec<_> = rows.iter().filter_map(|row| joint::as_part(row)).collect();
        match rows {
            [row] if parts.is_empty() => run.load(row)?,
            _ => run.load_parts(&parts)?,
        }
        for row in rows {
            bytes_done += row.bytes();
            progress(Progress { bytes_done, bytes_total: plan.target_bytes, parameter: row.parameter() });
        }
    }
    run.residency.release();
    run.finish_device()?;
    for row in &plan.rows {
        if let Some(to) = row.tied_to() {
            run.loaded.share(row.parameter(), to);
        }
    }
    for (parameter, to) in &tied {
        run.loaded.share(parameter, to);
    }
    run.loaded.watch(run.shards.finish()?);
    run.report.measured_peak_bytes = run.residency.meter.peak_bytes();
    run.report.seconds = start.elapsed().as_secs_f64();
    Ok((run.loaded, run.report))
}

/// A plan is only as good as the headers it was made from.
fn check_plan(plan: &LoadPlan, files: &CheckpointFiles, device: &Device) -> Result<(), LoadError> {
    if plan.device != *device {
        return Err(LoadError::StalePlan { planned: device_label(&plan.device), given: device_label(device) });
    }
    for source in plan.rows.iter().flat_map(PlanRow::tensors) {
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
    shards: MappedShards<'a>,
    upload: Upload<'a>,
    residency: Residency,
    /// Weights that the device quantised, of which it is not known yet whether all elements were finite.
    unchecked: Vec<(String, DeviceWeight)>,
    loaded: LoadedParameters,
    report: LoadReport,
}

impl Run<'_> {
    /// Whether the device computes in host memory.
    fn in_place(&self) -> bool {
        *self.device == Device::flex()
    }

    /// Memory of the device that an earlier model left is given back: pools keep it for tensors of the same sizes.
    fn make_room(&mut self) -> Result<(), LoadError> {
        if !self.in_place() {
            self.upload.wait()?;
            self.device.memory_cleanup();
        }
        Ok(())
    }

    fn load(&mut self, row: &PlanRow) -> Result<(), LoadError> {
        if let Fill::Mapped { .. } | Fill::Copied { .. } = &row.fill {
            self.residency.release();
        }
        match &row.fill {
            Fill::Mapped { part, elements } => self.load_mapped(row, part, elements),
            Fill::Copied { parts, dtype } => self.load_copied(row, parts, *dtype),
            Fill::Quantized(fill) => self.load_quantized(row, fill),
            Fill::Packed(packed) => self.load_packed(row, packed),
            Fill::Zeros { dtype } => self.load_zeros(row, *dtype),
            Fill::Shared { .. } => Ok(()),
        }
    }

    /// Waits for the device, and looks whether everything that it quantised was finite.
    fn finish_device(&mut self) -> Result<(), LoadError> {
        if self.in_place() {
            return Ok(());
        }
        for (parameter, weight) in std::mem::take(&mut self.unchecked) {
            weight.check().map_err(|error| LoadError::Quantization { parameter, source: error.into() })?;
        }
        self.upload.wait()?;
        self.device.memory_cleanup();
        self.report.device = self
            .device
            .memory_pool_usage()
            .map(|usage| DeviceBytes { in_use: usage.bytes_in_use, reserved: usage.bytes_reserved });
        Ok(())
    }

    fn count_quantized(&mut self, row: &PlanRow) {
        let Some(encoding) = row.encoding() else { return };
        let encodings = &mut self.report.encodings;
        match encodings.iter_mut().find(|entry| entry.encoding == encoding) {
            Some(entry) => (entry.parameters, entry.bytes) = (entry.parameters + 1, entry.bytes + row.bytes()),
            None => encodings.push(EncodingBytes { encoding, parameters: 1, bytes: row.bytes() }),
        }
    }

    fn count_dense(&mut self, row: &PlanRow) {
        let dtypes = &mut self.report.dtypes;
        let (stored, target) = (row.stored(), row.target());
        match dtypes.iter_mut().find(|entry| entry.stored == stored && entry.target == target) {
            Some(entry) => (entry.parameters, entry.bytes) = (entry.parameters + 1, entry.bytes + row.bytes()),
            None => dtypes.push(DtypeBytes { stored, target, parameters: 1, bytes: row.bytes() }),
        }
    }
}
