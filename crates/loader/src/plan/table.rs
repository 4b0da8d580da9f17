//! The plan as text.

use super::{Fill, FloatPart, LoadPlan, PlanRow, QuantizedFill};
use crate::{Encoding, dtype::float_name};
use automodel_quant::Scheme;
use burn::tensor::Device;
use serde::Serializer;
use std::fmt;

impl fmt::Display for LoadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["parameter", "shape", "stored", "target", "bytes", "how", "source"].map(str::to_owned);
        let rows: Vec<[String; 7]> =
            std::iter::once(header).chain(self.rows.iter().map(|row| cells(self, row))).collect();
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &rows {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .enumerate()
                .map(
                    |(column, (cell, width))| {
                        if column == 4 { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                    },
                )
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        self.summary(f)
    }
}

impl LoadPlan {
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(
            f,
            "{} parameters on {}: {} stored in {} file(s), {} loaded, of which {} stay in the mapped files; peak {}",
            self.rows.len(),
            device_label(&self.device),
            human(self.stored_bytes),
            self.shards.len(),
            human(self.target_bytes),
            human(self.mapped_bytes),
            human(self.peak_bytes),
        )?;
        for (encoding, count, bytes) in self.encodings() {
            let verb = if encoding.prequantized { "stored in" } else { "quantised to" };
            writeln!(f, "{count} parameters {verb} {encoding}: {}", human(bytes))?;
        }
        let mut reasons: Vec<(&str, usize)> = Vec::new();
        for row in &self.rows {
            match reasons.iter_mut().find(|(reason, _)| *reason == row.reason) {
                Some((_, count)) => *count += 1,
                None => reasons.push((row.reason, 1)),
            }
        }
        for (reason, count) in reasons {
            writeln!(f, "dtype of {count}: {reason}")?;
        }
        for (from, to) in &self.renamed {
            writeln!(f, "names: `{from}` is `{to}` in these files")?;
        }
        for (tensor, reason) in &self.ignored {
            writeln!(f, "ignored: {tensor} ({reason})")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl LoadPlan {
    /// Each encoding with its number of parameters and their bytes.
    fn encodings(&self) -> Vec<(Encoding, usize, u64)> {
        let mut all: Vec<(Encoding, usize, u64)> = Vec::new();
        for (encoding, bytes) in self.rows.iter().filter_map(|row| Some((row.encoding()?, row.bytes))) {
            match all.iter_mut().find(|(known, ..)| *known == encoding) {
                Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + bytes),
                None => all.push((encoding, 1, bytes)),
            }
        }
        all
    }
}

fn cells(plan: &LoadPlan, row: &PlanRow) -> [String; 7] {
    let several = |verb: &str, parts: &[FloatPart]| format!("{verb} from {}", parts.len());
    let how = match &row.fill {
        Fill::Shared { .. } => "tied".to_owned(),
        Fill::Zeros { .. } => "zeros".to_owned(),
        Fill::Quantized(QuantizedFill { parts, .. }) => match parts.as_slice() {
            [_] => "quantised".to_owned(),
            parts => several("quantised", parts),
        },
        Fill::Mapped { .. } => "mapped".to_owned(),
        Fill::Packed(packed) if packed.mapped => "mapped".to_owned(),
        Fill::Packed(packed) if packed.codes.walk.contiguous().is_none() => "gathered".to_owned(),
        Fill::Packed(_) => "copied".to_owned(),
        Fill::Copied { parts, dtype } => match parts.as_slice() {
            [part] if part.contiguous().is_none() => "gathered".to_owned(),
            [part] if part.dtype == *dtype => "copied".to_owned(),
            [_] => "converted".to_owned(),
            parts => several("joined", parts),
        },
    };
    let source = match (row.tied_to(), row.sources().next()) {
        (Some(to), _) => to.to_owned(),
        (None, Some(source)) => {
            let shard = plan.shards.get(source.shard).map_or("", String::as_str);
            format!("{}[{}..{}] {}", shard, source.range.start, source.range.end, source.tensor)
        }
        (None, None) => String::new(),
    };
    let quantized = |scheme: Scheme, shape: [usize; 2]| {
        let double = if scheme.is_joint() { " double" } else { "" };
        format!("{}/{}{double}", scheme.name(), scheme.unit(shape))
    };
    let target = match &row.fill {
        Fill::Quantized(fill) => quantized(fill.scheme, fill.shape),
        Fill::Packed(packed) => quantized(packed.scheme, packed.shape),
        Fill::Mapped { .. } | Fill::Copied { .. } | Fill::Zeros { .. } | Fill::Shared { .. } => {
            float_name(row.target()).to_owned()
        }
    };
    let (shape, stored) = (format!("{:?}", row.shape), row.stored().to_string());
    [row.parameter.clone(), shape, stored, target, row.bytes.to_string(), how, source]
}

/// `1.5 GiB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A device's name: `CPU (Flex)`, or what Burn calls it.
pub(crate) fn device_label(device: &Device) -> String {
    if *device == Device::flex() {
        return "CPU (Flex)".into();
    }
    let text = format!("{device:?}");
    text.strip_prefix("Device<").and_then(|text| text.strip_suffix('>')).unwrap_or(&text).to_owned()
}

pub(super) fn device_name<S: Serializer>(device: &Device, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&device_label(device))
}
