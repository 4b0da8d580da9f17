//! The one way from bytes of files to elements: window by window, so that memory stays bounded, into a sink.
//!
//! [`stream`] cuts the elements that are read of a tensor into windows and has a [`ShardReader`] deliver their bytes: [`MappedShards`] for loading,
//! [`PlainShards`] where nothing may stay mapped. The sink decides their destination: a dense buffer
//! ([`DenseSink`]), codes on the host ([`HostSink`]) or on a device ([`DeviceSink`]), or a file ([`CopySink`]).

mod copy;
mod dense;
mod device;
mod floats;
mod gather;
mod host;
mod mapped;
mod mapped_files;
mod memory;
mod plain;

pub(crate) use copy::CopySink;
pub(crate) use dense::DenseSink;
pub(crate) use device::{DeviceSink, Feeder, Upload};
pub(crate) use floats::{FromAnyFloat, NonFiniteCount, convert_bytes, search_bytes, with_float};
pub(crate) use host::HostSink;
pub(crate) use mapped::{MappedShard, MappedShards};
pub use mapped_files::MappedFiles;
pub(crate) use memory::Residency;
pub(crate) use plain::PlainShards;

use crate::{LoadError, PlanSource, plan::FloatPart, strided::Walk};
use burn::tensor::FloatDType;
use bytes::Bytes;
use floats::Float;
use std::ops::Range;

/// Delivers bytes of shards.
pub(crate) trait ShardReader {
    /// Bytes `range` of a shard, counted from the start of its file, and the pages of memory that they are.
    fn read(&mut self, shard: usize, range: Range<u64>) -> Result<(Bytes, Pages), LoadError>;
}

/// The pages of a mapped file that a window is; of a window that was read into memory, none.
#[derive(Clone, Default)]
pub(crate) struct Pages(Option<(MappedShard, Range<u64>)>);

impl Pages {
    /// Gives them back. They are read again if they are needed again.
    pub fn release(self) {
        if let Some((shard, range)) = self.0 {
            shard.release(range);
        }
    }

    /// Asks for the pages behind these, as many, which are most likely read next, by this parameter or another.
    pub fn read_ahead(&self) {
        if let Some((shard, range)) = &self.0 {
            shard.will_need(range.end..range.end.saturating_add(range.end - range.start));
        }
    }
}

/// The elements of a tensor that are to be read.
pub(crate) struct Stretch<'a> {
    pub shard: usize,
    /// Bytes of the whole tensor in the file.
    pub range: &'a Range<u64>,
    /// Bytes of an element.
    pub element_size: usize,
    /// The elements, in order.
    pub walk: &'a Walk,
    /// The most elements that a window spans, where their order allows that.
    pub limit: usize,
    /// Position of the first element in the destination.
    pub at: usize,
}

impl<'a> Stretch<'a> {
    /// A part of a parameter, whose first element is the parameter's `at`-th.
    pub fn of(part: &'a FloatPart, at: usize, limit: usize) -> Self {
        let PlanSource { shard, range, walk, .. } = &part.source;
        Self { shard: *shard, range, element_size: part.element_size(), walk, limit, at }
    }
}

/// Some elements of a tensor.
pub(crate) struct Window {
    /// Position of the first element in the destination.
    pub at: usize,
    /// From the first to the last element.
    pub bytes: Bytes,
    /// The elements in these bytes.
    pub walk: Walk,
    pub pages: Pages,
}

/// Takes windows, in the order of their elements.
pub(crate) trait Sink {
    fn take(&mut self, window: &Window) -> Result<(), LoadError>;
}

/// Reads a stretch window by window.
pub(crate) fn stream(
    reader: &mut dyn ShardReader,
    stretch: &Stretch<'_>,
    sink: &mut impl Sink,
) -> Result<(), LoadError> {
    stretch.walk.for_each_window(stretch.limit, &mut |first, window| {
        let span = window.span();
        let byte = |element: usize| stretch.range.start + (element * stretch.element_size) as u64;
        let (bytes, pages) = reader.read(stretch.shard, byte(span.start)..byte(span.end))?;
        let walk = Walk { offset: 0, axes: window.axes.clone() };
        sink.take(&Window { at: stretch.at + first, bytes, walk, pages })
    })
}

impl Window {
    /// Fills `target` with the elements of `part`, a part of the window's walk, which are stored in `dtype`. `at` is the position
    /// that the first one counts as.
    fn gather<T: FromAnyFloat>(&self, dtype: FloatDType, part: &Walk, target: &mut [T], at: u64) -> NonFiniteCount {
        with_float!(dtype, S => gather::gather::<S, T>(&self.bytes, part, target, at))
    }

    /// The bytes of a part of the window's walk that lies in them in order; `None` for others.
    fn contiguous<T: Float>(&self, part: &Walk) -> Option<Bytes> {
        let elements = part.contiguous()?;
        let range = elements.start.checked_mul(size_of::<T>())?..elements.end.checked_mul(size_of::<T>())?;
        (range.end <= self.bytes.len()).then(|| self.bytes.slice(range))
    }
}
