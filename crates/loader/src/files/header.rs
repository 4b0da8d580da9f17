//! The header of one safetensors file: eight bytes of length, JSON, then the tensors without gaps.

use super::{
    stamp::FileStamp,
    text::{Text, parse_json},
};
use crate::{LoadError, StoredDtype};
use automodel_config::files;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt, fs::File, io::Read, ops::Range, path::Path};

/// The format's own limit: <https://github.com/huggingface/safetensors>, `MAX_HEADER_SIZE`.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the length before the header.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// A checked header.
pub(super) struct Header {
    /// Of the whole file.
    pub stamp: FileStamp,
    pub metadata: BTreeMap<String, String>,
    /// Sorted by name.
    pub tensors: Vec<HeaderTensor>,
}

pub(super) struct HeaderTensor {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    /// Counted from the start of the file.
    pub range: Range<u64>,
}

/// Reads and checks the header of the file at `path`. No byte behind the header is read.
pub(super) fn read(path: &Path) -> Result<Header, LoadError> {
    let mut file = files::open(path).map_err(|source| LoadError::io("open", path, source))?;
    let stamp = FileStamp::of(&file).map_err(|source| LoadError::io("open", path, source))?;
    let length = stamp.length();
    let text = read_text(&mut file, path, length)?;
    let raw: RawHeader<'_> =
        parse_json(&text).map_err(|source| LoadError::HeaderSyntax { file: path.to_owned(), source })?;
    let data_start = LENGTH_BYTES + text.len() as u64;
    let tensors = sorted_by_name(check(raw.tensors, path, data_start, length)?, path)?;
    Ok(Header { stamp, metadata: raw.metadata, tensors })
}

fn read_text(file: &mut File, path: &Path, length: u64) -> Result<Vec<u8>, LoadError> {
    if length < LENGTH_BYTES {
        return Err(LoadError::TruncatedShard { file: path.to_owned(), length, needed: LENGTH_BYTES });
    }
    let mut prefix = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut prefix).map_err(|source| LoadError::io("read", path, source))?;
    if &prefix == b"version " {
        return Err(LoadError::GitLfsPointer { file: path.to_owned() });
    }
    let header_length = u64::from_le_bytes(prefix);
    if header_length >= MAX_HEADER_BYTES {
        let (file, limit) = (path.to_owned(), MAX_HEADER_BYTES);
        return Err(LoadError::HeaderTooLarge { file, length: header_length, limit });
    }
    let needed = LENGTH_BYTES + header_length;
    if needed > length {
        return Err(LoadError::TruncatedShard { file: path.to_owned(), length, needed });
    }
    // At most the limit above, and no more than the file has.
    let mut text = vec![0; header_length as usize];
    file.read_exact(&mut text).map_err(|source| LoadError::io("read", path, source))?;
    Ok(text)
}

/// Sorts tensors whose entries were checked, and looks for names that occur twice.
fn sorted_by_name(mut tensors: Vec<HeaderTensor>, path: &Path) -> Result<Vec<HeaderTensor>, LoadError> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    match tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(twice) => Err(listed_twice(&twice[0].name, path)),
        None => Ok(tensors),
    }
}

fn listed_twice(name: &str, path: &Path) -> LoadError {
    LoadError::HeaderSyntax { file: path.to_owned(), source: format!("`{name}` is listed twice").into() }
}

/// Turns raw entries into tensors that lie one after another from `data_start` to `length`, the end of the file.
fn check(
    raw: Vec<(Cow<'_, str>, RawTensor<'_>)>,
    path: &Path,
    data_start: u64,
    length: u64,
) -> Result<Vec<HeaderTensor>, LoadError> {
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, entry) in raw {
        tensors.push(check_tensor(name.into_owned(), entry, path, data_start)?);
    }
    tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));

    let needed = tensors.iter().map(|tensor| tensor.range.end).max().unwrap_or(data_start);
    if needed > length {
        return Err(LoadError::TruncatedShard { file: path.to_owned(), length, needed });
    }
    let mut end = data_start;
    let mut previous = None;
    for tensor in &tensors {
        let (name, start) = (&tensor.name, tensor.range.start);
        if start < end {
            return Err(match previous {
                Some(previous) if previous == name => listed_twice(name, path),
                _ => LoadError::TensorOverlap {
                    file: path.to_owned(),
                    tensor: name.clone(),
                    other: previous.map_or("the header", String::as_str).to_owned(),
                },
            });
        }
        if start > end {
            return Err(LoadError::HeaderHole { file: path.to_owned(), bytes: start - end, at: end });
        }
        end = tensor.range.end;
        previous = Some(name);
    }
    if end < length {
        return Err(LoadError::HeaderHole { file: path.to_owned(), bytes: length - end, at: end });
    }
    Ok(tensors)
}

fn check_tensor(name: String, entry: RawTensor<'_>, path: &Path, data_start: u64) -> Result<HeaderTensor, LoadError> {
    let file = || path.to_owned();
    let [begin, end] = entry.data_offsets;
    let Some(dtype) = StoredDtype::from_name(&entry.dtype.0) else {
        return Err(LoadError::UnknownDtype { file: file(), tensor: name, dtype: entry.dtype.0.into_owned() });
    };
    let range = match (data_start.checked_add(begin), data_start.checked_add(end)) {
        (Some(start), Some(end)) if start <= end => start..end,
        _ => return Err(LoadError::TensorRange { file: file(), tensor: name, begin, end }),
    };
    let expected = elements(&entry.shape).and_then(|elements| dtype.bytes_for(elements));
    let Some(expected) = expected else {
        return Err(LoadError::TensorOverflow { file: file(), tensor: name, shape: entry.shape, dtype });
    };
    if expected != end - begin {
        let (shape, found) = (entry.shape, end - begin);
        return Err(LoadError::TensorSize { file: file(), tensor: name, shape, dtype, expected, found });
    }
    // Their product is a `usize`, so that each of them is.
    let shape = entry.shape.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    Ok(HeaderTensor { name, dtype, shape, range })
}

/// Number of elements; `None` on overflow. Axes of size 0 do not hide an overflow of the others: strides are products of
/// some of the sizes.
fn elements(shape: &[u64]) -> Option<u64> {
    let without_empty = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size.max(1)))?;
    usize::try_from(without_empty).ok()?;
    Some(if shape.contains(&0) { 0 } else { without_empty })
}

struct RawHeader<'t> {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(Cow<'t, str>, RawTensor<'t>)>,
}

#[derive(Deserialize)]
struct RawTensor<'t> {
    #[serde(borrow)]
    dtype: Text<'t>,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de: 't, 't> Deserialize<'de> for RawHeader<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut metadata: Option<BTreeMap<String, String>> = None;
                let mut tensors = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    if name != "__metadata__" {
                        tensors.push((name, map.next_value()?));
                    } else if metadata.is_none() {
                        metadata = Some(map.next_value::<Option<_>>()?.unwrap_or_default());
                    } else {
                        return Err(serde::de::Error::custom("`__metadata__` is listed twice"));
                    }
                }
                Ok(RawHeader { metadata: metadata.unwrap_or_default(), tensors })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
