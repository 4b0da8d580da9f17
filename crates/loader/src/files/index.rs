//! `model.safetensors.index.json`, whose names are not to be trusted.

use super::text::{Text, parse_json};
use crate::LoadError;
use automodel_config::files;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt, fs,
    io::Read,
    path::{Component, Path, PathBuf},
};

/// An index above this size is refused. That of a checkpoint with 100,000 tensors has some 10 MB.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// Which shard has which tensor, according to the index.
pub(super) struct Index<'t> {
    /// Where it is.
    pub path: &'t Path,
    /// Names of the shards, sorted.
    pub shards: Vec<Cow<'t, str>>,
    /// Tensors, each with the number of its shard; in the order of the file until they are [sorted](Self::sort).
    pub tensors: Vec<(Cow<'t, str>, usize)>,
}

#[derive(Deserialize)]
struct IndexFile<'t> {
    #[serde(borrow)]
    weight_map: Entries<'t>,
}

/// The weight map in its own order, with each file name kept once.
struct Entries<'t> {
    files: Vec<Cow<'t, str>>,
    tensors: Vec<(Cow<'t, str>, usize)>,
}

impl<'de: 't, 't> Deserialize<'de> for Entries<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut numbers: HashMap<Cow<'de, str>, usize> = HashMap::new();
                let mut entries = Entries { files: Vec::new(), tensors: Vec::new() };
                while let Some((Text(tensor), Text(file))) = map.next_entry()? {
                    // Neighbours are mostly in the same file.
                    let last = entries.tensors.last().map(|(_, number)| *number);
                    let number = match last.filter(|&number| entries.files.get(number) == Some(&file)) {
                        Some(number) => number,
                        None => *numbers.entry(file).or_insert_with_key(|file| {
                            entries.files.push(file.clone());
                            entries.files.len() - 1
                        }),
                    };
                    entries.tensors.push((tensor, number));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// The text of an index, for [`parse`].
pub(super) fn read(directory: &Path, index_name: &str) -> Result<Vec<u8>, LoadError> {
    let path = directory.join(index_name);
    let file = files::open(&path).map_err(|source| LoadError::io("open", &path, source))?;
    let length = file.metadata().map_err(|source| LoadError::io("open", &path, source))?.len();
    if length > MAX_INDEX_BYTES {
        return Err(LoadError::IndexTooLarge { index: path, length, limit: MAX_INDEX_BYTES });
    }
    let mut text = Vec::new();
    file.take(MAX_INDEX_BYTES).read_to_end(&mut text).map_err(|source| LoadError::io("read", &path, source))?;
    Ok(text)
}

/// Parses an index and checks every file name.
pub(super) fn parse<'t>(text: &'t [u8], path: &'t Path) -> Result<Index<'t>, LoadError> {
    let file: IndexFile<'t> =
        parse_json(text).map_err(|source| LoadError::IndexSyntax { index: path.to_owned(), source })?;
    let Entries { files, mut tensors } = file.weight_map;
    if tensors.is_empty() {
        return Err(LoadError::IndexEmpty { index: path.to_owned() });
    }
    for name in &files {
        check_name(name).map_err(|reason| LoadError::ShardName {
            file: path.to_owned(),
            name: name.clone().into_owned(),
            reason,
        })?;
    }
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by(|&a, &b| files[a].cmp(&files[b]));
    let mut numbers = vec![0; files.len()];
    order.iter().enumerate().for_each(|(number, &file)| numbers[file] = number);
    tensors.iter_mut().for_each(|(_, number)| *number = numbers[*number]);
    let shards = order.into_iter().map(|file| files[file].clone()).collect();
    Ok(Index { shards, tensors, path })
}

impl Index<'_> {
    /// Sorts the tensors by name, and looks for names that occur twice.
    pub fn sort(&mut self) -> Result<(), LoadError> {
        self.tensors.sort_by(|a, b| a.0.cmp(&b.0));
        // A map type would have kept the last of two silently.
        match self.tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(twice) => {
                let source = format!("tensor `{}` is listed twice", twice[0].0).into();
                Err(LoadError::IndexSyntax { index: self.path.to_owned(), source })
            }
            None => Ok(()),
        }
    }
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

/// Finds the shards of one checkpoint. The files themselves may be symbolic links to anywhere, as in the Hugging Face cache;
/// the directories that they are in may not.
pub(super) struct Locator<'a> {
    directory: &'a Path,
    /// The file that names the shards.
    named_by: PathBuf,
    root: PathBuf,
    /// Directories that were found to be inside.
    inside: HashSet<PathBuf>,
}

impl<'a> Locator<'a> {
    pub fn new(directory: &'a Path, named_by: &str) -> Result<Self, LoadError> {
        let root = fs::canonicalize(directory).map_err(|source| LoadError::io("open", directory, source))?;
        Ok(Self { directory, named_by: directory.join(named_by), root, inside: HashSet::new() })
    }

    /// The path of the shard called `name`.
    pub fn path(&mut self, name: &str) -> Result<PathBuf, LoadError> {
        let path = self.directory.join(name);
        let missing = || LoadError::MissingShard { index: self.named_by.clone(), shard: path.clone() };
        let refused = |reason| LoadError::ShardName { file: self.named_by.clone(), name: name.into(), reason };
        let parent = path.parent().ok_or_else(missing)?;
        if !self.inside.contains(parent) {
            let real = fs::canonicalize(parent).map_err(|_| missing())?;
            if !real.starts_with(&self.root) {
                return Err(refused("it leaves the directory through a link"));
            }
            self.inside.insert(parent.to_owned());
        }
        match obstacle(&path) {
            Some(error) => Err(error),
            None if path.is_file() => Ok(path),
            None => Err(missing()),
        }
    }
}

/// The error for a dangling link, a directory or a pipe in the place of a file. `None` for a file, and if nothing is there.
pub(super) fn obstacle(path: &Path) -> Option<LoadError> {
    if let Some(target) = files::dangling_target(path) {
        return Some(LoadError::DanglingLink { link: path.to_owned(), target });
    }
    let found = files::irregular(fs::metadata(path).ok()?.file_type())?;
    Some(LoadError::NotAFile { path: path.to_owned(), found })
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
