//! The weight files of a checkpoint: found, checked, headers parsed, nothing else read.

mod adapter;
mod copies;
mod header;
mod index;
mod stamp;
mod text;

use crate::{LoadError, StoredDtype};
pub use adapter::Adapter;
pub(crate) use header::LENGTH_BYTES;
use header::{Header, HeaderTensor};
use index::{Index, Locator};
use rayon::prelude::*;
use serde::Serialize;
pub use stamp::FileChange;
pub(crate) use stamp::FileStamp;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fs,
    io::{self, Read, Seek},
    ops::Range,
    path::{Path, PathBuf},
};

/// The one file of an unsharded checkpoint.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// The index of a sharded checkpoint.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The safetensors files of one checkpoint and their headers. Weights are not read.
#[derive(Clone, Debug)]
pub struct CheckpointFiles {
    directory: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Tensors of a name that an earlier shard has too.
    copies: Vec<(String, TensorInfo)>,
    unindexed: Vec<String>,
    /// Tensors that the index lists and no shard has, with the shard that it names.
    unheld: BTreeMap<String, String>,
    warnings: Vec<String>,
}

/// One safetensors file.
#[derive(Clone, Debug, Serialize)]
pub struct Shard {
    /// Name relative to the directory, as the index has it.
    pub name: String,
    /// Where it is.
    #[serde(skip)]
    pub path: PathBuf,
    /// Length of the file in bytes.
    pub length: u64,
    /// The header's `__metadata__`, `format` = `pt` for instance.
    pub metadata: BTreeMap<String, String>,
    /// Of the moment when its header was read.
    #[serde(skip)]
    pub(crate) stamp: FileStamp,
}

/// A tensor as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: StoredDtype,
    /// Dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Number of the shard in [`CheckpointFiles::shards`].
    pub shard: usize,
    /// Bytes in that file, counted from its start.
    pub range: Range<u64>,
}

impl CheckpointFiles {
    /// Finds `model.safetensors` or `model.safetensors.index.json` in `directory`, in this order as transformers does,
    /// and parses the header of each shard once.
    ///
    /// # Errors
    /// [`LoadError::NoWeights`] and [`LoadError::PyTorchWeights`] if neither file is there; otherwise one of the
    /// variants about an index, a shard or a header, each of which names the file.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        let single = directory.join(SINGLE_FILE).is_file();
        let indexed = directory.join(INDEX_FILE).is_file();
        let name = match (single, indexed) {
            (true, _) => SINGLE_FILE,
            (false, true) => INDEX_FILE,
            (false, false) => return Err(no_weights(directory)),
        };
        let mut files = Self::open_named(directory, name)?;
        if single && indexed {
            files.warnings.push(format!(
                "{} has both {SINGLE_FILE} and {INDEX_FILE}; {SINGLE_FILE} is used, as transformers does",
                directory.display()
            ));
        }
        files.warnings.extend(Adapter::beside(directory).map(|adapter| adapter.unapplied()));
        Ok(files)
    }

    /// Opens the file that a config names as `transformers_weights`: a `.safetensors` file or a `.safetensors.index.json`
    /// file in `directory`.
    ///
    /// # Errors
    /// As [`CheckpointFiles::open`], and [`LoadError::ShardName`] if `name` leaves the directory.
    pub fn open_named(directory: &Path, name: &str) -> Result<Self, LoadError> {
        index::check_name(name).map_err(|reason| LoadError::ShardName {
            file: "transformers_weights".into(),
            name: name.into(),
            reason,
        })?;
        if name.ends_with(".safetensors.index.json") {
            return Self::open_index(directory, name);
        }
        let path = Locator::new(directory, "config.json")?.path(name)?;
        let header = header::read(&path)?;
        Self::of_headers(directory, vec![(name.to_owned(), path, header)])
    }

    fn open_index(directory: &Path, index_name: &str) -> Result<Self, LoadError> {
        let path = directory.join(index_name);
        let text = index::read(directory, index_name)?;
        let mut index = index::parse(&text, &path)?;
        let shards = index.shards.clone();
        let (sorted, headers) = rayon::join(|| index.sort(), || read_headers(directory, index_name, &shards));
        sorted?;
        let mut files = Self::of_headers(directory, headers?)?;
        files.compare(&index);
        Ok(files)
    }

    /// The files of a checkpoint from their names, paths and headers.
    fn of_headers(directory: &Path, headers: Vec<(String, PathBuf, Header)>) -> Result<Self, LoadError> {
        let mut shards = Vec::with_capacity(headers.len());
        let mut tensors = Vec::with_capacity(headers.iter().map(|(.., header)| header.tensors.len()).sum());
        for (name, path, Header { stamp, metadata, tensors: of_shard }) in headers {
            let shard = shards.len();
            tensors.extend(
                of_shard.into_iter().map(|HeaderTensor { name, dtype, shape, range }| {
                    (name, TensorInfo { dtype, shape, shard, range })
                }),
            );
            shards.push(Shard { name, path, length: stamp.length(), metadata, stamp });
        }
        // Stable, and quick on runs that are sorted already, as each header's are.
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        let copies = copies::take(&mut tensors);
        let warnings = copies::warning(&copies).into_iter().collect();
        Ok(Self {
            directory: directory.to_owned(),
            shards,
            tensors: tensors.into_iter().collect(),
            copies,
            unindexed: Vec::new(),
            unheld: BTreeMap::new(),
            warnings,
        })
    }

    /// Notes how the index differs from the shards, which are authoritative: transformers too takes only the names of the shards
    /// from the index. Both sides are sorted, so one pass does.
    fn compare(&mut self, index: &Index<'_>) {
        let (mut unindexed, mut unheld, mut misplaced) = (Vec::new(), BTreeMap::new(), Vec::new());
        let copies: HashSet<(&str, usize)> =
            self.copies.iter().map(|(name, info)| (name.as_str(), info.shard)).collect();
        let mut held = self.tensors.iter().peekable();
        for (tensor, shard) in &index.tensors {
            while let Some((name, _)) = held.next_if(|(name, _)| name.as_str() < tensor.as_ref()) {
                unindexed.push(name.clone());
            }
            match held.next_if(|(name, _)| name.as_str() == tensor.as_ref()) {
                None => {
                    let named = index.shards.get(*shard).map(|name| name.clone().into_owned()).unwrap_or_default();
                    unheld.insert(tensor.clone().into_owned(), named);
                }
                Some((name, info)) if info.shard != *shard && !copies.contains(&(name.as_str(), *shard)) => {
                    misplaced.push(name.clone())
                }
                Some(_) => {}
            }
        }
        unindexed.extend(held.map(|(name, _)| name.clone()));
        let name = index.path.file_name().unwrap_or_default().to_string_lossy();
        let mut warn = |tensors: &mut dyn ExactSizeIterator<Item = &String>, what: &str| {
            let count = tensors.len();
            self.warnings.extend(tensors.next().map(|first| format!("{count} tensor(s) {what}, `{first}` first")));
        };
        warn(&mut unindexed.iter(), &format!("of the shards are not in {name} but count as part of the checkpoint"));
        warn(&mut unheld.keys(), &format!("of {name} are in no shard"));
        warn(&mut misplaced.iter(), &format!("are in another shard than {name} says"));
        (self.unindexed, self.unheld) = (unindexed, unheld);
    }

    /// The bytes of a small tensor.
    pub(crate) fn read_tensor(&self, info: &TensorInfo, limit: u64) -> Result<Vec<u8>, LoadError> {
        let shard = self.shards.get(info.shard).ok_or_else(|| LoadError::StalePlan {
            planned: format!("a checkpoint with more than {} shard(s)", info.shard),
            given: self.directory.display().to_string(),
        })?;
        let read = || -> io::Result<Vec<u8>> {
            let mut file = automodel_config::files::open(&shard.path)?;
            file.seek(io::SeekFrom::Start(info.range.start))?;
            let mut bytes = Vec::new();
            // One byte more than the limit shows that it was exceeded.
            file.take((info.range.end - info.range.start).min(limit.saturating_add(1))).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| LoadError::io("read", &shard.path, source))
    }

    /// The directory they are in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All shards, in the order of their names.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The `__metadata__` of the first shard that has any.
    pub fn metadata(&self) -> Option<&BTreeMap<String, String>> {
        self.shards.iter().map(|shard| &shard.metadata).find(|metadata| !metadata.is_empty())
    }

    /// Tensors that a shard holds and the index does not name. They are part of [`CheckpointFiles::tensors`].
    pub fn unindexed(&self) -> &[String] {
        &self.unindexed
    }

    /// Tensors that the index lists and no shard has, with the shard that it names.
    pub(crate) fn unheld(&self) -> &BTreeMap<String, String> {
        &self.unheld
    }

    /// Oddities that are not errors.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Bytes of all tensors.
    pub fn stored_bytes(&self) -> u64 {
        self.tensors.values().fold(0, |sum, info| sum.saturating_add(info.range.end - info.range.start))
    }
}

/// Names, paths and headers of the shards that an index names, read in parallel.
fn read_headers(
    directory: &Path,
    index_name: &str,
    shards: &[Cow<'_, str>],
) -> Result<Vec<(String, PathBuf, Header)>, LoadError> {
    let mut locator = Locator::new(directory, index_name)?;
    let locate = |name: &Cow<'_, str>| Ok((name.as_ref().to_owned(), locator.path(name)?));
    let located: Vec<(String, PathBuf)> = shards.iter().map(locate).collect::<Result<_, LoadError>>()?;
    let read = |(name, path): (String, PathBuf)| {
        let header = header::read(&path)?;
        Ok((name, path, header))
    };
    // Not collected in parallel: of several errors the first shard's is reported, always the same.
    located.into_par_iter().map(read).collect::<Vec<Result<_, LoadError>>>().into_iter().collect()
}

/// The error for a directory without safetensors files, by the other files in it.
fn no_weights(directory: &Path) -> LoadError {
    let obstacles = [SINGLE_FILE, INDEX_FILE].into_iter().filter_map(|name| index::obstacle(&directory.join(name)));
    if let Some(error) = obstacles.into_iter().next() {
        return error;
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) => return LoadError::io("list", directory, source),
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).take(10_000).collect();
    names.sort();
    if let Some(Adapter { base }) = Adapter::beside(directory) {
        return LoadError::AdapterAlone { directory: directory.to_owned(), base };
    }
    let pytorch = |name: &&String| {
        name.ends_with(".bin.index.json") || [".bin", ".pt", ".pth"].iter().any(|suffix| name.ends_with(suffix))
    };
    let safetensors = |name: &&String| name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    if let Some(name) = names.iter().find(safetensors) {
        return LoadError::NoWeights { directory: directory.to_owned(), found: Some(name.clone()) };
    }
    if let Some(name) = names.iter().find(pytorch) {
        return LoadError::PyTorchWeights { file: directory.join(name) };
    }
    match names.iter().find(|name| name.ends_with(".gguf")) {
        Some(name) => LoadError::GgufWeights { file: directory.join(name) },
        None => LoadError::NoWeights { directory: directory.to_owned(), found: None },
    }
}
