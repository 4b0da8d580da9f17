//! How much memory loading will take.

use super::{Fill, FloatPart, JointPart, LoadPlan, PlanRow, QuantizedFill, policy::DeviceTraits};
use crate::dtype::float_size;
use burn::tensor::FloatDType;

/// Bytes of a window that is quantised: large enough to occupy all cores, small compared with a model. On two cores
/// windows from 4 to 32 MiB took the same time, smaller and larger ones more.
const QUANTIZED_WINDOW: u64 = 16 << 20;

pub(super) fn predicted_peak(plan: &LoadPlan, device: &DeviceTraits) -> u64 {
    let copied = || plan.rows.iter().filter(|row| !row.is_mapped());
    let window = copied().map(|row| in_flight(row, plan.max_bytes_in_flight)).max().unwrap_or(0);
    if device.cpu {
        return plan.target_bytes.saturating_add(window);
    }
    // Uploads are on the host until the device has taken them.
    let uploaded = || {
        copied().map(|row| match &row.fill {
            Fill::Quantized(_) => in_flight(row, plan.max_bytes_in_flight),
            _ => row.bytes,
        })
    };
    let all = uploaded().fold(0, u64::saturating_add);
    let largest = uploaded().max().unwrap_or(0);
    all.min(plan.max_bytes_in_flight.max(largest)).saturating_add(window)
}

/// Bytes that are in memory at once, besides the result, while this parameter is read.
fn in_flight(row: &PlanRow, max_bytes_in_flight: u64) -> u64 {
    match &row.fill {
        Fill::Zeros { .. } | Fill::Shared { .. } => 0,
        Fill::Mapped { part, .. } => window_bytes(part, max_bytes_in_flight),
        Fill::Copied { parts, .. } => {
            parts.iter().map(|part| window_bytes(part, max_bytes_in_flight)).max().unwrap_or(0)
        }
        Fill::Packed(packed) => packed.codes.range.end - packed.codes.range.start,
        Fill::Quantized(fill) => {
            let window = fill.parts.iter().map(|part| quantized_window_bytes(part, fill, max_bytes_in_flight));
            let window = window.max().unwrap_or(0);
            match &fill.joint {
                Some(JointPart { cut, whole }) => {
                    let [rows, columns] = cut.shape().map(|size| size as u64);
                    window.saturating_add(whole.joint_bytes(rows.saturating_mul(columns)))
                }
                None => window.max(fill.scheme.transient_bytes(fill.shape)),
            }
        }
    }
}

fn window_bytes(part: &FloatPart, max_bytes_in_flight: u64) -> u64 {
    largest_window(part, window_elements(max_bytes_in_flight, part.dtype))
}

fn quantized_window_bytes(part: &FloatPart, fill: &QuantizedFill, max_bytes_in_flight: u64) -> u64 {
    let limit = quantized_window_elements(max_bytes_in_flight, part.dtype);
    let in_place = part.dtype == fill.dtype.float() && part.contiguous().is_some();
    let buffered = if in_place { 0 } else { part.source.walk.largest_part(limit) * float_size(fill.dtype.float()) };
    // The pages of one window are given back while the next one is quantised.
    largest_window(part, limit).saturating_mul(2).saturating_add(buffered as u64)
}

/// Bytes of the file that are in memory at once while this part is read.
fn largest_window(part: &FloatPart, limit: usize) -> u64 {
    (part.source.walk.largest_window(limit) as u64).saturating_mul(part.element_size() as u64)
}

/// Elements per window. Windows below a mebibyte would only cost time.
pub(crate) fn window_elements(max_bytes_in_flight: u64, stored: FloatDType) -> usize {
    let bytes = max_bytes_in_flight.max(1 << 20);
    usize::try_from(bytes / float_size(stored).max(1) as u64).unwrap_or(usize::MAX)
}

/// Elements per window of a parameter that is quantised.
pub(crate) fn quantized_window_elements(max_bytes_in_flight: u64, stored: FloatDType) -> usize {
    window_elements(max_bytes_in_flight.min(QUANTIZED_WINDOW), stored)
}
