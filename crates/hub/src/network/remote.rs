//! Reads configuration and headers of a repo without its weights: small files, and the headers of the shards by range requests.
//!
//! The result is a temporary directory in which each shard is a sparse file of its full length with only its header, so that reading
//! headers gives the same result as for a downloaded checkpoint.

use std::{
    collections::BTreeMap,
    io::Write,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;

use super::{
    api::{Subject, refusal, unusable},
    download::content_range,
    fetch::{INDEX_BYTES, Load, Pinned},
    folder::Folder,
    listing::Entry,
    parallel,
    retry::Failure,
    select::Index,
    store::split,
};
use crate::HubError;

/// Size of the first request for a file without an index: enough for most headers.
const FIRST_BYTES: u64 = 64 << 10;
/// Minimum and maximum size of the first request for a shard.
const MIN_FIRST_BYTES: u64 = 1 << 10;
const MAX_FIRST_BYTES: u64 = 4 << 20;
/// Approximate bytes of a tensor in a header, besides its name: dtype, shape and offsets.
const TENSOR_BYTES: u64 = 100;
/// Maximum size of a header in the safetensors format.
const HEADER_BYTES: u64 = 100_000_000;
/// Maximum size of the headers of all shards.
const ALL_HEADER_BYTES: u64 = 1 << 30;
/// Bytes of the length before the header.
const LENGTH_BYTES: usize = 8;
/// Small files with the configuration.
const READ: [&str; 2] = ["config.json", "generation_config.json"];

/// A directory with the headers of a repo.
pub(crate) fn headers(load: &Load<'_>, pinned: &Pinned) -> Result<Option<TempDir>, HubError> {
    let Some(listing) = &pinned.listing else { return Ok(None) };
    let look = HeaderReader { load, commit: &pinned.commit, header_bytes: AtomicU64::new(0) };
    let directory = tempfile::Builder::new().prefix("automodel-headers-").tempdir();
    let directory = directory.map_err(|source| HubError::Unwritable { path: std::env::temp_dir(), source })?;
    let root = Folder::create_root(directory.path())?;
    let selection = load.selection(&pinned.commit, listing);
    let folder = load.folder.as_str();
    let mut index_text = None;
    for entry in selection.small_files()? {
        let is_index = selection.index() == Some(entry);
        if is_index || READ.iter().any(|name| entry.name == format!("{folder}{name}")) {
            let text = look.whole(entry)?;
            look.write(&root, entry, &text, text.len() as u64)?;
            index_text = is_index.then_some(text).or(index_text);
        }
    }
    let shards = selection.weights(index_text.as_deref())?;
    let expected = index_text.as_deref().map(expected_bytes).unwrap_or_default();
    parallel::for_each(
        &shards,
        load.options.parallel,
        || load.client.stop(),
        |shard| {
            let name = shard.name.strip_prefix(folder).unwrap_or(&shard.name);
            let header = look.header(shard, expected.get(name).copied().unwrap_or(FIRST_BYTES))?;
            look.write(&root, shard, &header, shard.bytes)
        },
    )?;
    Ok(Some(directory))
}

/// Expected header size of each shard, from the tensor names in the index.
fn expected_bytes(index: &[u8]) -> BTreeMap<String, u64> {
    let mut bytes = BTreeMap::new();
    // An invalid index was refused before.
    for (tensor, shard) in Index::parse(index).map(|index| index.weight_map).unwrap_or_default() {
        let of_shard: &mut u64 = bytes.entry(shard).or_default();
        *of_shard = of_shard.saturating_add(tensor.len() as u64 + TENSOR_BYTES);
    }
    bytes.values_mut().for_each(|bytes| *bytes = (*bytes).clamp(MIN_FIRST_BYTES, MAX_FIRST_BYTES));
    bytes
}

struct HeaderReader<'a> {
    load: &'a Load<'a>,
    commit: &'a str,
    header_bytes: AtomicU64,
}

impl HeaderReader<'_> {
    /// A small file, verified.
    fn whole(&self, entry: &Entry) -> Result<Vec<u8>, HubError> {
        if entry.bytes > INDEX_BYTES {
            return Err(unusable(&self.url(entry), format!("{} bytes exceed the limit for such a file", entry.bytes)));
        }
        let text = self.read(entry, 0..entry.bytes)?;
        let mut hasher = entry.hash.hasher(entry.bytes);
        hasher.update(&text);
        let found = hasher.finish();
        if found == entry.hash || self.load.options.skip_hashes {
            return Ok(text);
        }
        Err(HubError::CorruptDownload {
            repo: self.load.repo.to_string(),
            file: entry.name.clone(),
            expected: entry.hash.to_string(),
            found: found.to_string(),
        })
    }

    /// The header of a shard, with the length before it. The first request is for `first` bytes; a second one follows if the header is
    /// longer.
    fn header(&self, shard: &Entry, first: u64) -> Result<Vec<u8>, HubError> {
        let mut header = self.read(shard, 0..first.min(shard.bytes))?;
        let unusable = |reason: String| HubError::InvalidHeader {
            repo: self.load.repo.to_string(),
            file: shard.name.clone(),
            reason,
        };
        let length = header.first_chunk::<LENGTH_BYTES>().map(|bytes| u64::from_le_bytes(*bytes));
        let length = length.ok_or_else(|| unusable(format!("it has {} bytes", shard.bytes)))?;
        let end = length.checked_add(LENGTH_BYTES as u64).filter(|end| *end <= shard.bytes && length <= HEADER_BYTES);
        let end = end.ok_or_else(|| unusable(format!("a header of {length} bytes in a file of {}", shard.bytes)))?;
        if self.header_bytes.fetch_add(end, Ordering::Relaxed).saturating_add(end) > ALL_HEADER_BYTES {
            return Err(unusable(format!("the headers of all shards have more than {ALL_HEADER_BYTES} bytes")));
        }
        if end > header.len() as u64 {
            header.extend(self.read(shard, header.len() as u64..end)?);
        }
        header.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        Ok(header)
    }

    fn url(&self, entry: &Entry) -> String {
        self.load.client.endpoint.file(self.load.repo, self.commit, &entry.name)
    }

    /// Bytes of a file.
    fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let url = self.url(entry);
        self.load.client.repeat(&url, None, |_| self.read_once(entry, &url, range.clone()))
    }

    fn read_once(&self, entry: &Entry, url: &str, range: Range<u64>) -> Result<Vec<u8>, Failure> {
        let client = &self.load.client;
        let response = client.get(url, Some(range.clone()))?;
        if response.commit.as_ref().is_some_and(|commit| commit != self.commit) {
            return Err(unusable(url, "it belongs to another commit than requested".to_owned()).into());
        }
        let wanted = range.end - range.start;
        // A server without range requests sends the whole file; bytes before the range are skipped, later ones are not read.
        let skipped = match response.status {
            206 => match content_range(&response) {
                Some((start, size)) if start == range.start && size.is_none_or(|size| size == entry.bytes) => 0,
                _ => return Err(unusable(url, "the server sent another range than requested".to_owned()).into()),
            },
            200 => range.start,
            _ => {
                let subject = Subject { repo: self.load.repo, revision: self.commit, file: Some(&entry.name) };
                return Err(refusal(client, &subject, url, &response).into());
            }
        };
        let (mut bytes, _) = response.bytes(skipped.saturating_add(wanted))?;
        bytes.drain(..usize::try_from(skipped).unwrap_or(usize::MAX).min(bytes.len()));
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        Err(super::client::broken(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the connection ended too early",
        )))
    }

    /// Writes the beginning of a file of `length` bytes.
    fn write(&self, root: &Folder, entry: &Entry, beginning: &[u8], length: u64) -> Result<(), HubError> {
        let (below, name) = split(&entry.name);
        let below = below.strip_prefix('/').map(|below| root.create(below)).transpose()?;
        let folder = below.as_ref().unwrap_or(root);
        let written = folder.create_new(name).and_then(|mut file| {
            file.set_len(length)?;
            file.write_all(beginning)
        });
        written.map_err(|source| HubError::Unwritable { path: folder.path().join(name), source })
    }
}
