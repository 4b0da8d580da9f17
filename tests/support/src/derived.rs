//! Checkpoints whose weights are another's, stored otherwise: git has their configs and a `derived.json`, and the weights are
//! written when a test first asks for them.

use crate::checkpoints::{Stored, Tensors, read_tensors, write_file};
use safetensors::Dtype;
use serde_json::Value;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Names the checkpoint that another is derived from.
const MANIFEST: &str = "derived.json";
const WEIGHTS: &str = "model.safetensors";

/// `directory` itself, or, if it has a manifest, a directory below `target` with its files and those derived from the checkpoint
/// that the manifest names.
pub fn whole(directory: &Path) -> PathBuf {
    let Ok(manifest) = fs::read(directory.join(MANIFEST)) else { return directory.to_owned() };
    let manifest = Manifest::parse(&manifest).unwrap_or_else(|problem| panic!("{}: {problem}", directory.display()));
    let source = directory.with_file_name(&manifest.from);
    let name = directory.file_name().unwrap().to_string_lossy();
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/derived-fixtures");
    let place = parent.join(format!("{name}-{:016x}", fingerprint(&[directory, &source])));
    if !place.is_dir() {
        fs::create_dir_all(&parent).unwrap();
        // Other tests may do the same at the same time: whoever renames first wins.
        let draft = tempfile::tempdir_in(&parent).unwrap();
        copy_files(&source, draft.path());
        copy_files(directory, draft.path());
        write_file(&draft.path().join(WEIGHTS), &manifest.derive(read_tensors(&source.join(WEIGHTS))));
        let renamed = fs::rename(draft.path(), &place);
        assert!(place.is_dir(), "{}: {renamed:?}", place.display());
    }
    place
}

/// The contents of `derived.json`.
struct Manifest {
    /// The folder beside this one that has the weights.
    from: String,
    /// Tensors with this ending hold bytes that are stored as another dtype.
    suffix: String,
    dtype: Dtype,
}

impl Manifest {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(format!("{value} is not a string"));
        let from = text(&json["from"])?;
        if !matches!(Path::new(&from).components().collect::<Vec<_>>()[..], [std::path::Component::Normal(_)]) {
            return Err(format!("{from:?} is not a folder beside this one"));
        }
        let view = &json["bytes_as"];
        let dtype = serde_json::from_value(view["dtype"].clone()).map_err(|error| error.to_string())?;
        Ok(Self { from, suffix: text(&view["suffix"])?, dtype })
    }

    /// Bytes `[n, 1]` become `[n / size of the dtype, 1]` elements; the bytes stay.
    fn derive(&self, source: Tensors) -> Vec<Stored> {
        let size = self.dtype.bitsize() / 8;
        let tensors = source.into_iter().map(|(name, (mut dtype, mut shape, bytes))| {
            if dtype == Dtype::U8 && name.ends_with(&self.suffix) {
                assert!(shape[0].is_multiple_of(size), "{name} has {} bytes", shape[0]);
                (dtype, shape[0]) = (self.dtype, shape[0] / size);
            }
            Stored { name, dtype, shape, bytes }
        });
        tensors.collect()
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_name() != MANIFEST {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A number that changes with any byte of the files in `directories`, and with this crate.
fn fingerprint(directories: &[&Path]) -> u64 {
    let mut hasher = DefaultHasher::new();
    include_bytes!("derived.rs").hash(&mut hasher);
    for directory in directories {
        let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            (path.file_name(), fs::read(&path).unwrap()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{bitsandbytes, bitsandbytes_checkpoints, fixture};
    use std::collections::BTreeMap;

    /// The files that transformers and bitsandbytes wrote, of which git had copies before they were derived.
    #[test]
    fn derived_weights_are_byte_for_byte_those_of_transformers() {
        let written = BTreeMap::from(WRITTEN);
        let derived = bitsandbytes_checkpoints().into_iter().filter(|name| {
            let manifest = fixture("bitsandbytes").join(name).join(MANIFEST);
            manifest.is_file()
        });
        let mut count = 0;
        for name in derived {
            let weights = fs::read(bitsandbytes(&name).join(WEIGHTS)).unwrap();
            assert_eq!((weights.len(), fnv(&weights)), written[name.as_str()], "{name}");
            count += 1;
        }
        assert_eq!(count, written.len());
    }

    /// Length and FNV-1a hash of `model.safetensors`.
    const WRITTEN: [(&str, (usize, u64)); 3] = [
        ("llama-fp4-f16", (51497, 0x8c5e_f6e3_c39a_7b72)),
        ("llama-nf4-bf16", (51521, 0x373d_46e0_071c_815d)),
        ("llama-nf4-double-f32", (78610, 0x9735_3eb7_24c6_f9c8)),
    ];

    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }

    #[test]
    fn a_manifest_names_a_folder_beside_it() {
        let manifest =
            |from: &str| format!(r#"{{"from": "{from}", "bytes_as": {{"dtype": "BF16", "suffix": ".weight"}}}}"#);
        assert_eq!(Manifest::parse(manifest("llama-nf4").as_bytes()).unwrap().dtype, Dtype::BF16);
        for from in ["", "..", "/tmp", "../x", "a/b"] {
            assert!(Manifest::parse(manifest(from).as_bytes()).is_err(), "{from:?}");
        }
        assert!(Manifest::parse(br#"{"from": "llama-nf4"}"#).is_err());
    }
}
