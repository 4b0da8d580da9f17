//! The files of one commit: names, sizes and hashes, from the server or from the cache.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::hash::ContentHash;
use crate::{file_name::is_contained, files};

/// Maximum size of a listing in the cache.
pub(crate) const LIST_BYTES: u64 = 64 << 20;
/// Version of `huggingface_hub`'s format of listings.
const FORMAT: u64 = 1;

/// One file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name in the repo.
    pub(crate) name: String,
    /// Size in bytes.
    pub(crate) bytes: u64,
    /// Hash of the contents.
    pub(crate) hash: ContentHash,
    /// Its git object id.
    pub(crate) git: String,
}

/// The files of one commit, by name. Names that are not plain relative ones are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    files: BTreeMap<String, Entry>,
    /// The first name that would leave its directory, if any.
    pub(crate) hostile: Option<String>,
}

impl Listing {
    pub(crate) fn insert(&mut self, entry: Entry) {
        if is_contained(&entry.name) {
            self.files.insert(entry.name.clone(), entry);
        } else if self.hostile.is_none() {
            self.hostile = Some(entry.name);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.files.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.files.values()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.files.len()
    }

    /// The listing in a file of the cache; `None` if it is missing or invalid.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = files::read(path, LIST_BYTES).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        if kept.format_version != FORMAT {
            return None;
        }
        let mut listing = Self::default();
        for (name, file) in kept.files {
            let git = file.blob_id;
            let (bytes, hash) = match (file.lfs_sha256, file.lfs_size) {
                (Some(sha256), Some(bytes)) => (bytes, ContentHash::from_name(&sha256)?),
                _ => (file.size, ContentHash::from_name(&git)?),
            };
            listing.insert(Entry { name, bytes, hash, git });
        }
        Some(listing)
    }

    /// The listing in the format of the cache.
    pub(crate) fn text(&self) -> Option<Vec<u8>> {
        let keep = |entry: &Entry| {
            let lfs = matches!(entry.hash, ContentHash::Sha256(_));
            let file = KeptFile {
                size: entry.bytes,
                blob_id: entry.git.clone(),
                lfs_sha256: lfs.then(|| entry.hash.name().to_owned()),
                lfs_size: lfs.then_some(entry.bytes),
            };
            (entry.name.clone(), file)
        };
        let kept = Kept { format_version: FORMAT, files: self.iter().map(keep).collect() };
        serde_json::to_vec(&kept).ok()
    }
}

/// `trees/<commit>.json`. Source: `TreeCacheEntry` in `huggingface_hub/_tree_cache.py`.
#[derive(Serialize, Deserialize)]
struct Kept {
    format_version: u64,
    files: BTreeMap<String, KeptFile>,
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_survive_the_cache_and_invalid_ones_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        let mut listing = Listing::default();
        for (name, digits) in [("config.json", 40), ("model.safetensors", 64)] {
            let hash = ContentHash::from_name(&"a".repeat(digits)).unwrap();
            listing.insert(Entry { name: name.to_owned(), bytes: 7, hash, git: "a".repeat(40) });
        }
        std::fs::write(&path, listing.text().unwrap()).unwrap();
        assert_eq!(Listing::read(&path), Some(listing));
        for bad in
            ["", "{}", "[]", r#"{"format_version":2,"files":{}}"#, r#"{"format_version":1,"files":{"a":{"size":-1}}}"#]
        {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Listing::read(&path), None, "{bad}");
        }
    }

    #[test]
    fn hostile_names_are_kept_apart() {
        let mut listing = Listing::default();
        let hash = ContentHash::from_name(&"a".repeat(40)).unwrap();
        for name in ["../../etc/passwd", "/etc/passwd", "a\\b", "C:x"] {
            listing.insert(Entry { name: name.to_owned(), bytes: 0, hash: hash.clone(), git: String::new() });
        }
        assert_eq!((listing.len(), listing.hostile.as_deref()), (0, Some("../../etc/passwd")));
    }
}
