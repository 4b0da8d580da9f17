//! Where everything goes: shards, tensors and their places, known before a weight is read.
//!
//! Within a shard wide elements come before narrow ones, so that each tensor is aligned. Last are the quantisation states, the
//! only tensors whose length is not known beforehand: with double quantisation they hold a number in decimal digits.

use super::selection::{Selection, Target};
use crate::{
    CheckpointFiles, QuantizationConfig, StoredDtype, TensorInfo,
    save::shards::{FRAME_BYTES, entry_room},
};
use automodel_quant::{
    WeightDtype,
    format::{Companion, NestedState, QuantState},
};
use std::cmp::Reverse;

/// Digits, sign and exponent that a decimal number may have more than `0.0`.
const NUMBER_BYTES: usize = 32;
/// No shard's header grows beyond this; the format's limit is 100 MB.
const MAX_HEADER_BYTES: u64 = 50_000_000;

/// All shards.
pub(super) struct Layout<'a> {
    pub shards: Vec<PlannedShard<'a>>,
}

pub(super) struct PlannedShard<'a> {
    pub name: String,
    /// Bytes before the first tensor.
    pub data_start: u64,
    /// Bytes of all tensors with a fixed place.
    pub fixed_bytes: u64,
    /// In the order of the source.
    pub groups: Vec<Group<'a>>,
}

/// A tensor of the source and what becomes of it.
pub(super) struct Group<'a> {
    pub source: &'a str,
    pub info: &'a TensorInfo,
    pub target: Option<Target>,
    pub tensors: Vec<Planned>,
}

/// A tensor to write.
pub(super) struct Planned {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    /// For a quantisation state, the most that it may have.
    pub bytes: u64,
    /// First byte behind the header; `None` for a quantisation state.
    pub place: Option<u64>,
}

impl<'a> Layout<'a> {
    pub fn new(
        files: &'a CheckpointFiles,
        selection: &Selection<'_>,
        config: &QuantizationConfig,
        max_shard_bytes: u64,
    ) -> Self {
        let mut tensors: Vec<(&String, &TensorInfo)> = files.tensors().iter().collect();
        tensors.sort_by_key(|(_, info)| (info.shard, info.range.start, info.range.end));
        let groups = tensors
            .into_iter()
            .map(|(name, info)| Group::new(name, info, selection.quantized.get(name.as_str()).copied(), config));

        let (mut parts, mut part): (Vec<Vec<Group<'a>>>, Vec<Group<'a>>) = Default::default();
        let (mut bytes, mut room) = (0u64, 0u64);
        for group in groups {
            let (group_bytes, group_room) = (group.bytes(), group.header_room());
            let full = bytes.saturating_add(group_bytes) > max_shard_bytes || room + group_room > MAX_HEADER_BYTES;
            if full && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                (bytes, room) = (0, 0);
            }
            (bytes, room) = (bytes.saturating_add(group_bytes), room + group_room);
            part.push(group);
        }
        parts.push(part);
        let total = parts.len();
        let name = |number: usize| match total {
            1 => crate::files::SINGLE_FILE.to_owned(),
            _ => format!("model-{:05}-of-{total:05}.safetensors", number + 1),
        };
        let shards = parts.into_iter().enumerate().map(|(number, groups)| PlannedShard::new(name(number), groups));
        Self { shards: shards.collect() }
    }
}

impl<'a> PlannedShard<'a> {
    fn new(name: String, mut groups: Vec<Group<'a>>) -> Self {
        let room: u64 = groups.iter().map(Group::header_room).sum();
        let fixed = groups.iter_mut().flat_map(|group| &mut group.tensors);
        let mut fixed: Vec<&mut Planned> = fixed.filter(|tensor| !is_state(&tensor.name)).collect();
        fixed.sort_by_key(|tensor| Reverse(tensor.dtype.bits()));
        let mut end = 0u64;
        for tensor in fixed {
            tensor.place = Some(end);
            end = end.saturating_add(tensor.bytes);
        }
        Self { name, data_start: (8 + FRAME_BYTES + room).next_multiple_of(8), fixed_bytes: end, groups }
    }

    /// Whether `written`, one file, has what this shard is to have.
    pub fn matches(&self, written: &CheckpointFiles) -> bool {
        let mut planned = self.groups.iter().flat_map(|group| &group.tensors);
        let as_planned = |tensor: &Planned| {
            written.tensors().get(&tensor.name).is_some_and(|info| match tensor.place {
                Some(place) => {
                    let start = self.data_start + place;
                    info.dtype == tensor.dtype && info.shape == tensor.shape && info.range.start == start
                }
                None => info.dtype == StoredDtype::U8 && info.range.end - info.range.start <= tensor.bytes,
            })
        };
        let count: usize = self.groups.iter().map(|group| group.tensors.len()).sum();
        written.tensors().len() == count && planned.all(as_planned)
    }

    /// Bytes of the source that go into it.
    pub fn source_bytes(&self) -> u64 {
        self.groups.iter().map(Group::source_bytes).sum()
    }
}

impl<'a> Group<'a> {
    fn new(source: &'a str, info: &'a TensorInfo, target: Option<Target>, config: &QuantizationConfig) -> Self {
        let tensors = match target {
            None => {
                let bytes = info.range.end - info.range.start;
                vec![Planned {
                    name: source.to_owned(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    bytes,
                    place: None,
                }]
            }
            Some(target) => {
                let nested = config.double_quant.then_some(NestedState { offset: 0.0 });
                let (quant_type, blocksize, dtype) = (config.quant_type, config.blocksize, weight_dtype(info.dtype));
                let state = QuantState { quant_type, blocksize, dtype, shape: target.shape, nested };
                state.tensors(source).into_iter().map(planned).collect()
            }
        };
        Self { source, info, target, tensors }
    }

    fn bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes))
    }

    pub fn source_bytes(&self) -> u64 {
        self.info.range.end - self.info.range.start
    }

    fn header_room(&self) -> u64 {
        self.tensors.iter().map(|tensor| entry_room(&tensor.name, &tensor.shape)).sum()
    }
}

fn planned(header: automodel_quant::format::TensorHeader) -> Planned {
    let dtype = if header.dtype == safetensors::Dtype::F32 { StoredDtype::F32 } else { StoredDtype::U8 };
    let elements = header.shape.iter().fold(1usize, |product, &size| product.saturating_mul(size));
    let spare = if is_state(&header.name) { NUMBER_BYTES } else { 0 };
    let bytes = (elements.saturating_add(spare) as u64).saturating_mul(dtype.bits() / 8);
    Planned { name: header.name, dtype, shape: header.shape, bytes, place: None }
}

fn is_state(name: &str) -> bool {
    matches!(Companion::parse(name), Some((_, Companion::State(_))))
}

/// The dtype that a tensor is quantised from: its own, except that float64 becomes float32, as on loading.
pub(super) fn weight_dtype(stored: StoredDtype) -> WeightDtype {
    match stored {
        StoredDtype::F16 => WeightDtype::Float16,
        StoredDtype::BF16 => WeightDtype::BFloat16,
        _ => WeightDtype::Float32,
    }
}
