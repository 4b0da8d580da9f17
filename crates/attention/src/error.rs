//! Errors.

use crate::sdpa::{SdpaBackend, join_names};
use burn::tensor::DType;

/// An error of this crate. Shapes are in elements, lengths in positions.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// An unknown name of an attention backend.
    #[error("unknown attention backend `{name}`: choose from {}", join_names(&SdpaBackend::ALL))]
    UnknownBackend {
        /// The name.
        name: String,
    },
    /// An empty list of requested backends.
    #[error("the list of attention backends is empty: name at least one of {}, or give no list", join_names(&SdpaBackend::ALL))]
    EmptyPreference,
    /// None of the requested backends runs on the device.
    #[error(
        "no requested attention backend runs on {device}: {}. It supports {}",
        skipped.iter().map(|(backend, reason)| format!("{backend} ({reason})")).collect::<Vec<_>>().join(", "),
        join_names(available)
    )]
    UnavailableBackend {
        /// The device.
        device: String,
        /// The requested backends, each with the reason why it does not run.
        skipped: Vec<(SdpaBackend, String)>,
        /// The backends that the device supports.
        available: Vec<SdpaBackend>,
    },
    /// A tensor whose shape does not match the others.
    #[error("attention: the shape of the {tensor} is {found:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        tensor: &'static str,
        /// The expected one.
        expected: String,
        /// The actual one.
        found: Vec<usize>,
    },
    /// Tensors of one call with different dtypes, or a dtype that attention cannot compute with.
    #[error("attention: the dtype of the {tensor} is {found:?}, expected {expected}: cast before the call")]
    Dtype {
        /// Which tensor.
        tensor: &'static str,
        /// The expected one.
        expected: String,
        /// The actual one.
        found: DType,
    },
    /// Tensors of one call on different devices.
    #[error("attention: the {tensor} are on {found}, the queries are on {expected}: move them before the call")]
    DeviceMismatch {
        /// Which tensor.
        tensor: &'static str,
        /// The device of the queries.
        expected: String,
        /// The device of the tensor.
        found: String,
    },
    /// A list of paddings whose length is not the batch size.
    #[error("positions carry left paddings for {rows} rows, the batch has {batch}: give one for each row, or none")]
    PaddingRows {
        /// Paddings given.
        rows: usize,
        /// Batch size.
        batch: usize,
    },
    /// Positions that overflow `usize`.
    #[error("positions overflow: {start} + {length}")]
    PositionOverflow {
        /// First position.
        start: usize,
        /// Number of positions.
        length: usize,
    },
    /// A parameter outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// Its range.
        expected: &'static str,
    },
    /// A list of frequency divisors whose length is not `rotary_dim / 2`.
    #[error("rope {name} has {found} entries, expected {expected} (half of rotary_dim)")]
    RopeFactors {
        /// `short_factor` or `long_factor`.
        name: &'static str,
        /// `rotary_dim / 2`.
        expected: usize,
        /// Actual number of entries.
        found: usize,
    },
    /// Missing or empty lists of positions for rotary tables, or lists of unequal lengths.
    #[error(
        "rope positions: row {row} has {found} positions, expected {expected}: give rows of equal, positive length"
    )]
    RopePositions {
        /// Index of the row.
        row: usize,
        /// Positions of the first row (at least 1).
        expected: usize,
        /// Positions of this row.
        found: usize,
    },
    /// Keys or values whose shape does not match the cache.
    #[error("cache: the shape of the {tensor} is {found:?}, expected {expected}; reset the cache before another batch")]
    CacheShape {
        /// `keys` or `values`.
        tensor: &'static str,
        /// The expected one.
        expected: String,
        /// The actual one.
        found: Vec<usize>,
    },
    /// Keys or values of another dtype or on another device than the cache.
    #[error("cache: the {tensor} are {found}, expected {expected}; reset the cache before changing dtype or device")]
    CacheKind {
        /// `keys` or `values`.
        tensor: &'static str,
        /// Dtype and device of the cache.
        expected: String,
        /// Dtype and device of the new tensor.
        found: String,
    },
    /// More positions than the capacity of a preallocated cache.
    #[error("cache: {length} positions held and {added} added exceed the capacity of {capacity}")]
    CacheCapacity {
        /// Capacity of the cache.
        capacity: usize,
        /// Cached positions.
        length: usize,
        /// Positions to add.
        added: usize,
    },
    /// A buffer too large to allocate.
    #[error("cache: a buffer of shape {shape:?} cannot be allocated: lower the capacity")]
    CacheAllocation {
        /// Shape of the buffer.
        shape: [usize; 4],
    },
}

impl From<std::convert::Infallible> for AttentionError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
