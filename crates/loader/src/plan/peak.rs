//! How much memory loading will take.

use super::{LoadPlan, PlanRow, PlanSource, policy::DeviceTraits};
use crate::{Encoding, StoredDtype, dtype::float_size};

/// Bytes of a window that is quantised: large enough to occupy all cores, small against what a model takes. On two cores
/// windows from 4 to 32 MiB took the same time, smaller and larger ones more.
const QUANTIZED_WINDOW: u64 = 16 << 20;

pub(super) fn predicted_peak(plan: &LoadPlan, device: &DeviceTraits) -> u64 {
    let copied = || plan.rows.iter().filter(|row| !row.mapped);
    let window = copied().map(|row| in_flight(row, plan.max_bytes_in_flight)).max().unwrap_or(0);
    if device.cpu {
        return plan.target_bytes.saturating_add(window);
    }
    // What goes to the device is on the host until the device has it.
    let handed =
        || copied().map(|row| if quantised_there(row) { in_flight(row, plan.max_bytes_in_flight) } else { row.bytes });
    let all = handed().fold(0, u64::saturating_add);
    let largest = handed().max().unwrap_or(0);
    all.min(plan.max_bytes_in_flight.max(largest)).saturating_add(window)
}

/// Whether a row is quantised as it is loaded.
fn quantised_there(row: &PlanRow) -> bool {
    row.encoding.is_some_and(|encoding| !encoding.prequantized)
}

/// Bytes that are in memory at once, besides the result, while this parameter is read.
fn in_flight(row: &PlanRow, max_bytes_in_flight: u64) -> u64 {
    let largest = |bytes: &dyn Fn(&PlanSource) -> u64| row.sources.iter().map(bytes).max().unwrap_or(0);
    match row.encoding {
        None => largest(&|source| {
            let limit = window_elements(max_bytes_in_flight, source.stored);
            largest_window(source, limit)
        }),
        Some(encoding) if encoding.prequantized => largest(&|source| source.range.end - source.range.start),
        Some(encoding) => {
            let window = largest(&|source| {
                let limit = quantized_window_elements(max_bytes_in_flight, source.stored);
                let in_place = source.stored.float() == Some(row.target) && source.walk.contiguous().is_some();
                let buffered = if in_place { 0 } else { source.walk.largest_part(limit) * float_size(row.target) };
                // The pages of one window are given back while the next one is quantised.
                largest_window(source, limit).saturating_mul(2).saturating_add(buffered as u64)
            });
            match row.joint_scales {
                true => window.saturating_add(joint_scales(row, encoding)),
                false => window.max(encoding.transient_bytes(row.elements())),
            }
        }
    }
}

/// Bytes of the scales of a whole tensor: in float32 until all its parts are there, once by part, once joined, once decoded.
fn joint_scales(row: &PlanRow, encoding: Encoding) -> u64 {
    let elements = |source: &PlanSource| (source.range.end - source.range.start) / (source.stored.bits() / 8).max(1);
    let blocks = row.sources.iter().map(elements).sum::<u64>().div_ceil(encoding.blocksize.get() as u64);
    blocks.saturating_mul(3 * 4)
}

/// Bytes of the file that are in memory at once while this source is read.
fn largest_window(source: &PlanSource, limit: usize) -> u64 {
    (source.walk.largest_window(limit) as u64).saturating_mul(source.stored.bits() / 8)
}

/// Elements per window. Windows below a mebibyte would only cost time.
pub(crate) fn window_elements(max_bytes_in_flight: u64, stored: StoredDtype) -> usize {
    let bytes = max_bytes_in_flight.max(1 << 20);
    usize::try_from(bytes / (stored.bits() / 8).max(1)).unwrap_or(usize::MAX)
}

/// Elements per window of a parameter that is quantised.
pub(crate) fn quantized_window_elements(max_bytes_in_flight: u64, stored: StoredDtype) -> usize {
    window_elements(max_bytes_in_flight.min(QUANTIZED_WINDOW), stored)
}
