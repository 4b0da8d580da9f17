//! `model.safetensors.index.json`, whose names are not to be trusted.

use crate::LoadError;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Component, Path, PathBuf},
};

/// An index above this size is refused. That of a checkpoint with 100,000 tensors has some 10 MB.
const MAX_INDEX_BYTES: u64 = 100_000_000;

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMapEntries,
}

/// Entries with names kept unique: a map type would keep the last of two silently.
struct WeightMapEntries(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMapEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMapEntries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                    if entries.contains_key(&tensor) {
                        return Err(serde::de::Error::custom(format!("tensor `{tensor}` is listed twice")));
                    }
                    entries.insert(tensor, file);
                }
                Ok(WeightMapEntries(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads the weight map, tensor to file name, and checks every file name.
pub(super) fn read(directory: &Path, index_name: &str) -> Result<BTreeMap<String, String>, LoadError> {
    let path = directory.join(index_name);
    let metadata = fs::metadata(&path).map_err(|source| LoadError::io("open", &path, source))?;
    if !metadata.is_file() {
        return Err(LoadError::ShardName { file: path, name: index_name.into(), reason: "it is not a regular file" });
    }
    if metadata.len() > MAX_INDEX_BYTES {
        return Err(LoadError::IndexTooLarge { index: path, length: metadata.len(), limit: MAX_INDEX_BYTES });
    }
    let text = fs::read(&path).map_err(|source| LoadError::io("read", &path, source))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|source| LoadError::IndexSyntax { index: path.clone(), source: source.into() })?;
    let WeightMapEntries(weight_map) = index.weight_map;
    if weight_map.is_empty() {
        return Err(LoadError::IndexEmpty { index: path });
    }
    for name in weight_map.values() {
        check_name(name).map_err(|reason| LoadError::ShardName { file: path.clone(), name: name.clone(), reason })?;
    }
    Ok(weight_map)
}

/// Checks that `name` can only mean something below the directory it is joined to, on every system.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.contains('\0') {
        return Err("it contains a NUL character");
    }
    if name.contains('\\') || name.contains(':') {
        return Err("it contains `\\` or `:`, which are part of drive and network paths");
    }
    if Path::new(name).is_absolute() || name.starts_with('/') {
        return Err("it is an absolute path");
    }
    let ordinary = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !ordinary || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it has an empty, `.` or `..` part");
    }
    Ok(())
}

/// The path of a shard. The file itself may be a symbolic link anywhere, as in the Hugging Face cache; the directory that
/// it is in may not.
pub(super) fn resolve(directory: &Path, name: &str, index_name: &str) -> Result<PathBuf, LoadError> {
    let path = directory.join(name);
    let file = directory.join(index_name);
    let missing = || LoadError::MissingShard { index: file.clone(), shard: path.clone() };
    let root = fs::canonicalize(directory).map_err(|source| LoadError::io("open", directory, source))?;
    let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok()).ok_or_else(missing)?;
    if !parent.starts_with(&root) {
        return Err(LoadError::ShardName { file, name: name.into(), reason: "it leaves the directory through a link" });
    }
    let metadata = fs::metadata(&path).map_err(|_| missing())?;
    if !metadata.is_file() {
        return Err(LoadError::ShardName { file, name: name.into(), reason: "it is not a regular file" });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let bad = [
            "",
            "/etc/passwd",
            "../x.safetensors",
            "a/../../x",
            "./x",
            "a//b",
            "a/",
            "C:\\x",
            "C:x",
            "\\\\host\\share\\x",
            "..\\x",
            "x\0y",
            "..",
            ".",
        ];
        for name in bad {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["model.safetensors", "shards/model-00001-of-00002.safetensors", "...safetensors"] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
    }
}
