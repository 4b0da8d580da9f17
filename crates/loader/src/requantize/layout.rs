//! Where everything goes: shards, tensors and their places, known before a weight is read.
//!
//! Within a shard wide elements come before narrow ones, so that each tensor is aligned. Last are the
//! tensors whose length is not known beforehand: descriptions that hold numbers in decimal digits.

use super::selection::Selection;
use crate::{
    CheckpointFiles, LoadError, QuantizationConfig, StoredDtype, TensorInfo,
    dtype::weight_dtype,
    quantization::Matrix,
    save::{
        index::shard_name,
        shard_file::{data_start, entry_room},
    },
};
use automodel_quant::{QuantError, files};
use burn::tensor::FloatDType;
use std::cmp::Reverse;

/// No shard's header grows beyond this; the format's limit is 100 MB.
const MAX_HEADER_BYTES: u64 = 50_000_000;

/// All shards.
pub(super) struct Layout<'a> {
    pub shards: Vec<PlannedShard<'a>>,
}

pub(super) struct PlannedShard<'a> {
    pub name: String,
    /// The most bytes that the entries of its header need.
    pub header_room: u64,
    /// Bytes of all tensors with a fixed place.
    pub fixed_bytes: u64,
    /// In the order of the source.
    pub groups: Vec<Group<'a>>,
}

/// A tensor of the source and the tensors that are written for it.
pub(super) struct Group<'a> {
    pub source: &'a str,
    pub info: &'a TensorInfo,
    pub matrix: Option<Matrix>,
    pub tensors: Vec<Planned>,
}

/// A tensor to write.
pub(super) struct Planned {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    /// Of a tensor whose length is not known beforehand, the most that it may have.
    pub bytes: u64,
    /// First byte behind the header; `None` for a tensor whose length is not known beforehand.
    pub place: Option<u64>,
    /// Whether its length is known beforehand.
    is_fixed: bool,
}

impl<'a> Layout<'a> {
    pub fn new(
        files: &'a CheckpointFiles,
        selection: &Selection<'_>,
        config: &QuantizationConfig,
        max_shard_bytes: u64,
    ) -> Result<Self, LoadError> {
        let mut tensors: Vec<(&String, &TensorInfo)> = files.tensors().iter().collect();
        tensors.sort_by_key(|(_, info)| (info.shard, info.range.start, info.range.end));
        let groups = tensors
            .into_iter()
            .map(|(name, info)| Group::new(name, info, selection.quantized.get(name.as_str()).copied(), config));

        let (mut parts, mut part): (Vec<Vec<Group<'a>>>, Vec<Group<'a>>) = Default::default();
        let (mut bytes, mut room) = (0u64, 0u64);
        for group in groups {
            let group = group?;
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
        let shard = |(number, groups)| PlannedShard::new(shard_name(number, total), groups);
        let shards = parts.into_iter().enumerate().map(shard);
        Ok(Self { shards: shards.collect() })
    }
}

impl<'a> PlannedShard<'a> {
    fn new(name: String, mut groups: Vec<Group<'a>>) -> Self {
        let room: u64 = groups.iter().map(Group::header_room).sum();
        let fixed = groups.iter_mut().flat_map(|group| &mut group.tensors);
        let mut fixed: Vec<&mut Planned> = fixed.filter(|tensor| tensor.is_fixed).collect();
        fixed.sort_by_key(|tensor| Reverse(tensor.dtype.bits()));
        let mut end = 0u64;
        for tensor in fixed {
            tensor.place = Some(end);
            end = end.saturating_add(tensor.bytes);
        }
        Self { name, header_room: room, fixed_bytes: end, groups }
    }

    /// Whether `written`, one file, has the tensors of this shard in their places.
    pub fn matches(&self, written: &CheckpointFiles) -> bool {
        let mut planned = self.groups.iter().flat_map(|group| &group.tensors);
        let as_planned = |tensor: &Planned| {
            written.tensors().get(&tensor.name).is_some_and(|info| match tensor.place {
                Some(place) => {
                    let start = data_start(self.header_room) + place;
                    info.dtype == tensor.dtype && info.shape == tensor.shape && info.range.start == start
                }
                None => info.dtype == tensor.dtype && info.range.end - info.range.start <= tensor.bytes,
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
    fn new(
        source: &'a str,
        info: &'a TensorInfo,
        matrix: Option<Matrix>,
        config: &QuantizationConfig,
    ) -> Result<Self, LoadError> {
        let tensors = match matrix {
            None => {
                let (name, dtype, shape) = (source.to_owned(), info.dtype, info.shape.clone());
                let bytes = info.range.end - info.range.start;
                vec![Planned { name, dtype, shape, bytes, place: None, is_fixed: true }]
            }
            Some(matrix) => {
                let refused =
                    |error: QuantError| LoadError::Unquantizable { tensor: source.to_owned(), source: error.into() };
                let dtype = weight_dtype(info.dtype.float().unwrap_or(FloatDType::F32));
                let tensors = files::planned(source, config.scheme, matrix.shape, dtype).map_err(refused)?;
                tensors.into_iter().map(Planned::of).collect()
            }
        };
        Ok(Self { source, info, matrix, tensors })
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

impl Planned {
    fn of(tensor: files::PlannedTensor) -> Self {
        let files::PlannedTensor { header, spare } = tensor;
        let dtype = StoredDtype::from_safetensors(header.dtype).unwrap_or(StoredDtype::U8);
        let elements = header.shape.iter().fold(1u64, |product, &size| product.saturating_mul(size as u64));
        let bytes = dtype.bytes_for(elements).unwrap_or(u64::MAX).saturating_add(spare as u64);
        Self { name: header.name, dtype, shape: header.shape, bytes, place: None, is_fixed: spare == 0 }
    }
}
