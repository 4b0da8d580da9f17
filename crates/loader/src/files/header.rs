//! The header of one safetensors file: eight bytes of length, JSON, then the tensors without gaps.

use crate::{LoadError, StoredDtype};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    fs::File,
    io::Read,
    ops::Range,
    path::Path,
};

/// The format's own limit: <https://github.com/huggingface/safetensors>, `MAX_HEADER_SIZE`.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the length before the header.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// A checked header.
pub(super) struct Header {
    /// Length of the whole file.
    pub length: u64,
    pub metadata: BTreeMap<String, String>,
    /// In the order of their bytes.
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
    let mut file = File::open(path).map_err(|source| LoadError::io("open", path, source))?;
    let length = file.metadata().map_err(|source| LoadError::io("open", path, source))?.len();
    let text = read_text(&mut file, path, length)?;
    let raw: RawHeader = serde_json::from_slice(&text)
        .map_err(|source| LoadError::HeaderSyntax { file: path.to_owned(), source: source.into() })?;
    let data_start = LENGTH_BYTES + text.len() as u64;
    let tensors = check(raw.tensors, path, data_start, length)?;
    Ok(Header { length, metadata: raw.metadata, tensors })
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

/// Turns raw entries into tensors that lie one after another from `data_start` to `length`, the end of the file.
fn check(
    raw: Vec<(String, RawTensor)>,
    path: &Path,
    data_start: u64,
    length: u64,
) -> Result<Vec<HeaderTensor>, LoadError> {
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, entry) in raw {
        tensors.push(check_tensor(name, entry, path, data_start)?);
    }
    tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));

    let needed = tensors.iter().map(|tensor| tensor.range.end).max().unwrap_or(data_start);
    if needed > length {
        return Err(LoadError::TruncatedShard { file: path.to_owned(), length, needed });
    }
    let mut end = data_start;
    let mut previous = "the header";
    for tensor in &tensors {
        let (file, name, start) = (path.to_owned(), tensor.name.clone(), tensor.range.start);
        if start < end {
            return Err(LoadError::TensorOverlap { file, tensor: name, other: previous.to_owned() });
        }
        if start > end {
            return Err(LoadError::HeaderHole { file, bytes: start - end, at: end });
        }
        end = tensor.range.end;
        previous = &tensor.name;
    }
    if end < length {
        return Err(LoadError::HeaderHole { file: path.to_owned(), bytes: length - end, at: end });
    }
    Ok(tensors)
}

fn check_tensor(name: String, entry: RawTensor, path: &Path, data_start: u64) -> Result<HeaderTensor, LoadError> {
    let file = path.to_owned();
    let [begin, end] = entry.data_offsets;
    let Some(dtype) = StoredDtype::from_name(&entry.dtype) else {
        return Err(LoadError::UnknownDtype { file, tensor: name, dtype: entry.dtype });
    };
    let range = match (data_start.checked_add(begin), data_start.checked_add(end)) {
        (Some(start), Some(end)) if start <= end => start..end,
        _ => return Err(LoadError::TensorRange { file, tensor: name, begin, end }),
    };
    let expected = elements(&entry.shape).and_then(|elements| dtype.bytes_for(elements));
    let Some(expected) = expected else {
        return Err(LoadError::TensorOverflow { file, tensor: name, shape: entry.shape, dtype });
    };
    if expected != end - begin {
        let (shape, found) = (entry.shape, end - begin);
        return Err(LoadError::TensorSize { file, tensor: name, shape, dtype, expected, found });
    }
    let shape = entry.shape.iter().map(|&size| usize::try_from(size)).collect::<Result<Vec<_>, _>>();
    let Ok(shape) = shape else {
        return Err(LoadError::TensorOverflow { file, tensor: name, shape: entry.shape, dtype });
    };
    Ok(HeaderTensor { name, dtype, shape, range })
}

/// Number of elements; `None` on overflow. Axes of size 0 do not hide an overflow of the others: strides are products of
/// some of the sizes.
fn elements(shape: &[u64]) -> Option<u64> {
    let without_empty = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size.max(1)))?;
    usize::try_from(without_empty).ok()?;
    Some(if shape.contains(&0) { 0 } else { without_empty })
}

struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, RawTensor)>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut header = RawHeader { metadata: BTreeMap::new(), tensors: Vec::new() };
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("`{name}` is listed twice")));
                    }
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Option<BTreeMap<String, String>>>()?.unwrap_or_default();
                    } else {
                        let entry = map.next_value()?;
                        header.tensors.push((name, entry));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
