//! What happened while a plan was executed.

use crate::{Encoding, StoredDtype};
use burn::tensor::FloatDType;
use serde::Serialize;

/// Result of executing a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadReport {
    /// Parameters without a value, only with [`crate::LoadOptions::allow_missing`].
    pub missing: Vec<String>,
    /// Tensors of the files that nothing read.
    pub unexpected: Vec<String>,
    /// Tensors that were left unread on purpose.
    pub ignored: Vec<String>,
    /// The outcome of each tie.
    pub tied: Vec<TieReport>,
    /// Bytes of dense parameters by stored dtype and dtype on the device.
    pub dtypes: Vec<DtypeBytes>,
    /// Bytes of quantised parameters by encoding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encodings: Vec<EncodingBytes>,
    /// Oddities that are not errors.
    pub warnings: Vec<String>,
    /// Parameters with values that are NaN or infinite. Parameters that stayed in the mapped file are looked at only with
    /// [`crate::LoadOptions::check_finite`].
    pub non_finite: Vec<NonFinite>,
    /// Predicted peak of host memory in bytes.
    pub planned_peak_bytes: u64,
    /// How far the process's resident memory rose above what it had at the start, in bytes; Linux only.
    pub measured_peak_bytes: Option<u64>,
    /// Memory that the device's allocator holds after loading; for GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceBytes>,
    /// Bytes of parameters that stayed in the mapped files.
    pub mapped_bytes: u64,
    /// Bytes of parameters that were copied, converted or quantised.
    pub copied_bytes: u64,
    /// Time taken in seconds.
    pub seconds: f64,
}

/// Memory that a device's allocator holds for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceBytes {
    /// Bytes of tensors.
    pub in_use: u64,
    /// Bytes taken from the device: those in use, and pages that are kept for later.
    pub reserved: u64,
}

/// Bytes that went from one dtype to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DtypeBytes {
    /// In the file.
    pub stored: StoredDtype,
    /// On the device.
    pub target: FloatDType,
    /// Number of parameters.
    pub parameters: usize,
    /// Bytes on the device.
    pub bytes: u64,
}

/// Bytes of quantised parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EncodingBytes {
    /// How they are kept.
    pub encoding: Encoding,
    /// Number of parameters.
    pub parameters: usize,
    /// Bytes of codes and scales.
    pub bytes: u64,
}

/// A parameter with values that are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NonFinite {
    /// The parameter.
    pub parameter: String,
    /// How many of its values.
    pub count: u64,
    /// Row-major index of the first of them in the parameter.
    pub first_index: u64,
    /// How many of them are finite in the file, and became infinite because they are beyond the range of the dtype on the
    /// device: beyond 65504 in float16.
    #[serde(skip_serializing_if = "is_zero")]
    pub overflowed: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A parameter with values beyond the range of the dtype in which it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overflow {
    /// The parameter.
    pub parameter: String,
    /// How many of its values.
    pub count: u64,
    /// Row-major index of the first of them in the parameter.
    pub first_index: u64,
}

/// The outcome of a tie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TieReport {
    /// The parameter that follows.
    pub parameter: String,
    /// The parameter whose storage it shares, or would have.
    pub to: String,
    /// The outcome.
    pub outcome: TieOutcome,
}

/// Why two parameters share storage, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TieOutcome {
    /// The checkpoint has only one of them.
    Shared,
    /// The checkpoint has both, and they are equal.
    EqualAndShared,
    /// The checkpoint has both, and they differ: not tied.
    DifferentAndApart,
}
