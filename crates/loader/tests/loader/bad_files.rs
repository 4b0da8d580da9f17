//! Files that are missing, damaged or malicious: each a clear error, none a panic.

use crate::common::{checkpoint, f32s, load, message, options, plain_map, sharded, write_file, write_index};
use automodel_loader::{CheckpointFiles, LoadError, LoadPlan, identity_map};
use proptest::prelude::*;
use std::{fs, path::Path};

/// A file whose header is `header` and which has `data` bytes behind it.
fn raw(header: &str, data: usize) -> tempfile::TempDir {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    raw_bytes(&bytes)
}

fn raw_bytes(bytes: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    directory
}

fn open(directory: &Path) -> (LoadError, String) {
    let error = CheckpointFiles::open(directory).unwrap_err();
    let text = message(&error);
    (error, text)
}

macro_rules! assert_error {
    ($directory:expr, $pattern:pat, $($part:expr),+) => {{
        let (error, text) = open($directory.path());
        assert!(matches!(error, $pattern), "{error:?}");
        $(assert!(text.contains($part), "{text:?} should say {:?}", $part);)+
    }};
}

#[test]
fn truncated_and_empty_shards() {
    assert_error!(
        raw_bytes(b""),
        LoadError::TruncatedShard { .. },
        "model.safetensors has 0 bytes",
        "download it again"
    );
    assert_error!(raw_bytes(b"abc"), LoadError::TruncatedShard { needed: 8, .. }, "3 bytes");
    let whole = checkpoint(&[f32s("w", &[4], &[1.0; 4])]);
    let path = whole.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        assert_error!(whole, LoadError::TruncatedShard { .. }, "cut short");
    }
}

#[test]
fn a_git_lfs_pointer_is_recognised() {
    let pointer = raw_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    assert_error!(pointer, LoadError::GitLfsPointer { .. }, "git lfs pull");
}

#[test]
fn headers_of_100_megabytes_and_more_are_not_read() {
    for length in [100_000_000u64, 5_000_000_000, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert_error!(raw_bytes(&bytes), LoadError::HeaderTooLarge { .. }, "100000000", &*length.to_string());
    }
    let mut bytes = 99_999_999u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    assert_error!(raw_bytes(&bytes), LoadError::TruncatedShard { .. }, "10 bytes");
}

#[test]
fn headers_that_are_not_what_they_should_be() {
    assert_error!(raw("nonsense", 0), LoadError::HeaderSyntax { .. }, "model.safetensors", "line 1");
    assert_error!(raw("[]", 0), LoadError::HeaderSyntax { .. }, "cannot be parsed");
    assert_error!(
        raw(r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4),
        LoadError::HeaderSyntax { .. },
        "-1"
    );
    assert_error!(raw(r#"{"w":{"dtype":"F32","shape":[1]}}"#, 4), LoadError::HeaderSyntax { .. }, "data_offsets");
    let entry = r#""w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    assert_error!(raw(&format!("{{{entry},{entry}}}"), 4), LoadError::HeaderSyntax { .. }, "`w` is listed twice");
    let deep = "[".repeat(100_000);
    assert_error!(raw(&format!(r#"{{"w":{deep}"#), 0), LoadError::HeaderSyntax { .. }, "cannot be parsed");
    assert_error!(
        raw(r#"{"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4),
        LoadError::UnknownDtype { .. },
        "`w`",
        "F99"
    );
}

#[test]
fn offsets_that_overlap_leave_the_file_or_overflow() {
    let two = |first: [u64; 2], second: [u64; 2]| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[{}],"data_offsets":{first:?}}},"b":{{"dtype":"U8","shape":[{}],"data_offsets":{second:?}}}}}"#,
            first[1] - first[0],
            second[1] - second[0]
        )
    };
    assert_error!(raw(&two([0, 8], [4, 12]), 12), LoadError::TensorOverlap { .. }, "`b`", "`a`");
    assert_error!(raw(&two([0, 8], [0, 8]), 8), LoadError::TensorOverlap { .. }, "overlap");
    assert_error!(raw(&two([0, 4], [8, 12]), 12), LoadError::HeaderHole { bytes: 4, .. }, "belong to no tensor");
    assert_error!(raw(&two([0, 4], [4, 8]), 9), LoadError::HeaderHole { bytes: 1, .. }, "1 bytes");
    assert_error!(raw(&two([0, 4], [4, 80]), 8), LoadError::TruncatedShard { .. }, "cut short");

    let one = |shape: &str, begin: u64, end: u64| {
        raw(&format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#), 8)
    };
    assert_error!(one("[2]", 8, 0), LoadError::TensorRange { .. }, "`w`", "8..0");
    assert_error!(one("[2]", u64::MAX - 8, u64::MAX), LoadError::TensorRange { .. }, "impossible offsets");
    assert_error!(one("[3]", 0, 8), LoadError::TensorSize { expected: 12, found: 8, .. }, "`w`", "needs 12");
    assert_error!(one("[9223372036854775807, 4]", 0, 8), LoadError::TensorOverflow { .. }, "overflows");
    assert_error!(one("[9223372036854775807]", 0, 8), LoadError::TensorOverflow { .. }, "`w`");
    // An empty axis does not hide that the others overflow.
    assert_error!(one("[0, 4294967296, 4294967296, 2]", 0, 0), LoadError::TensorOverflow { .. }, "overflows");
    let half_bytes = raw(r#"{"w":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, 2);
    assert_error!(half_bytes, LoadError::TensorOverflow { .. }, "not a whole number");
}

#[test]
fn an_index_may_name_only_files_inside_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    write_file(&outside.path().join("secret.safetensors"), &[f32s("w", &[1], &[1.0])]);
    let absolute = outside.path().join("secret.safetensors").to_str().unwrap().to_owned();
    let relative = format!("../{}/secret.safetensors", outside.path().file_name().unwrap().to_str().unwrap());
    for name in [absolute.as_str(), relative.as_str(), "..\\secret", "C:\\secret", "\\\\host\\share", "a\0b", "", "."] {
        let directory = tempfile::tempdir().unwrap();
        write_index(directory.path(), &[("w".to_owned(), name.to_owned())].into());
        assert_error!(directory, LoadError::ShardName { .. }, "model.safetensors.index.json", "refused because");
    }
    let directory = tempfile::tempdir().unwrap();
    let error = CheckpointFiles::open_named(directory.path(), &relative).unwrap_err();
    assert!(matches!(error, LoadError::ShardName { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_for_files_but_not_for_directories() {
    let outside = tempfile::tempdir().unwrap();
    write_file(&outside.path().join("blob"), &[f32s("w", &[1], &[1.0])]);
    let snapshot = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path().join("blob"), snapshot.path().join("model.safetensors")).unwrap();
    assert_eq!(CheckpointFiles::open(snapshot.path()).unwrap().tensors().len(), 1);

    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), directory.path().join("shards")).unwrap();
    write_index(directory.path(), &[("w".to_owned(), "shards/blob".to_owned())].into());
    assert_error!(directory, LoadError::ShardName { .. }, "through a link");
}

#[test]
fn an_index_that_does_not_fit_its_shards() {
    let directory = tempfile::tempdir().unwrap();
    write_index(directory.path(), &[("w".to_owned(), "model-00001-of-00001.safetensors".to_owned())].into());
    assert_error!(
        directory,
        LoadError::MissingShard { .. },
        "model-00001-of-00001.safetensors is missing",
        "download it again"
    );

    let (a, b) = ("a.safetensors", "b.safetensors");
    let swapped = sharded(&[(a, vec![f32s("x", &[1], &[1.0])]), (b, vec![f32s("y", &[1], &[1.0])])]);
    write_index(swapped.path(), &[("x".to_owned(), b.to_owned()), ("y".to_owned(), b.to_owned())].into());
    let files = CheckpointFiles::open(swapped.path()).unwrap();
    assert_eq!(files.tensors().len(), 1, "the first shard is not named");
    assert!(files.warnings()[0].contains("`x` first") && files.warnings()[0].contains("in no shard"), "{files:?}");
    write_index(swapped.path(), &[("x".to_owned(), b.to_owned()), ("y".to_owned(), a.to_owned())].into());
    let files = CheckpointFiles::open(swapped.path()).unwrap();
    assert!(files.warnings()[0].starts_with("2 tensor(s) are in another shard"), "{files:?}");
    load(swapped.path(), &identity_map(&files), &options()).unwrap();
}

#[test]
fn a_tensor_in_two_shards_must_be_equal_where_it_is_needed() {
    let (a, b) = ("a.safetensors", "b.safetensors");
    let two = |x: f32, more: &[f32]| {
        let second = vec![f32s("x", &[1], &[x]), f32s("y", &[more.len()], more)];
        let directory = sharded(&[(a, vec![f32s("x", &[1], &[1.0]), f32s("y", &[1], &[3.0])]), (b, second)]);
        write_index(directory.path(), &[("x".to_owned(), a.to_owned()), ("y".to_owned(), b.to_owned())].into());
        directory
    };
    let load = |directory: &tempfile::TempDir, needed: &str| {
        load(directory.path(), &plain_map(&[(needed, &[1])]), &options()).map(|(_, report)| report.warnings.join("; "))
    };
    assert!(load(&two(1.0, &[3.0]), "x").unwrap().contains("2 tensor(s) are in more than one shard, `x` first"));
    let different = two(2.0, &[3.0]);
    let error = load(&different, "x").unwrap_err();
    assert!(matches!(error, LoadError::DuplicateTensor { .. }), "{error}");
    for part in ["`x`", a, b] {
        assert!(message(&error).contains(part), "{error}");
    }
    load(&different, "y").unwrap();
    // Of another shape the plan knows.
    let longer = two(1.0, &[3.0, 4.0]);
    let files = CheckpointFiles::open(longer.path()).unwrap();
    let error = LoadPlan::new(&files, &plain_map(&[("y", &[1])]), &options()).unwrap_err();
    assert!(matches!(error, LoadError::DuplicateTensor { .. }), "{error}");
}

#[test]
fn an_index_that_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("model.safetensors.index.json");
    let cases = ["", "{", "[]", "{}", r#"{"weight_map": {"w": 3}}"#, r#"{"weight_map": {"w": "a", "w": "b"}}"#];
    for text in cases {
        fs::write(&index, text).unwrap();
        assert_error!(directory, LoadError::IndexSyntax { .. }, "model.safetensors.index.json");
    }
    fs::write(&index, r#"{"weight_map": {}}"#).unwrap();
    assert_error!(directory, LoadError::IndexEmpty { .. }, "lists no tensor");
    fs::File::create(&index).unwrap().set_len(200_000_000).unwrap();
    assert_error!(directory, LoadError::IndexTooLarge { .. }, "200000000 bytes");
}

#[test]
fn tensors_that_the_index_forgot_are_part_of_the_checkpoint() {
    let directory = sharded(&[("a.safetensors", vec![f32s("x", &[1], &[1.0]), f32s("y", &[1], &[1.0])])]);
    write_index(directory.path(), &[("x".to_owned(), "a.safetensors".to_owned())].into());
    let files = CheckpointFiles::open(directory.path()).unwrap();
    assert_eq!(files.unindexed(), ["y"]);
    assert_eq!(files.tensors().len(), 2);
    assert!(files.warnings()[0].contains("`y`"));
}

#[test]
fn directories_without_safetensors() {
    let directory = tempfile::tempdir().unwrap();
    assert_error!(directory, LoadError::NoWeights { found: None, .. }, "neither model.safetensors nor", "download");
    fs::write(directory.path().join("pytorch_model.bin"), b"x").unwrap();
    assert_error!(directory, LoadError::PyTorchWeights { .. }, "pytorch_model.bin", "save_pretrained");
    fs::write(directory.path().join("weights.safetensors"), b"x").unwrap();
    assert_error!(
        directory,
        LoadError::NoWeights { found: Some(_), .. },
        "weights.safetensors",
        "transformers_weights"
    );
    let gone = directory.path().join("gone");
    assert!(matches!(CheckpointFiles::open(&gone).unwrap_err(), LoadError::Io { .. }));
}

#[test]
fn a_file_that_the_config_names_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    write_file(&directory.path().join("weights.safetensors"), &[f32s("w", &[1], &[1.0])]);
    let files = CheckpointFiles::open_named(directory.path(), "weights.safetensors").unwrap();
    assert_eq!(files.shards()[0].name, "weights.safetensors");
    assert_eq!(files.metadata().unwrap()["format"], "pt");
}

#[test]
fn a_single_file_wins_over_an_index_as_in_transformers() {
    let directory = sharded(&[("a.safetensors", vec![f32s("x", &[1], &[1.0])])]);
    write_file(&directory.path().join("model.safetensors"), &[f32s("y", &[1], &[1.0])]);
    let files = CheckpointFiles::open(directory.path()).unwrap();
    assert!(files.tensors().contains_key("y") && !files.tensors().contains_key("x"));
    assert_eq!(files.warnings().len(), 1);
}

proptest! {
    /// Damage anywhere in a header is an error or harmless, never a panic.
    #[test]
    fn damaged_headers_never_panic(changes in proptest::collection::vec((0usize..400, any::<u8>()), 1..4), cut in 0usize..600) {
        let directory = checkpoint(&[f32s("model.a", &[2, 3], &[1.0; 6]), f32s("model.b", &[5], &[2.0; 5])]);
        let path = directory.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        for (position, value) in changes {
            let position = position % bytes.len();
            bytes[position] = value;
        }
        bytes.truncate(bytes.len().min(cut + 8));
        fs::write(&path, &bytes).unwrap();
        if let Ok(files) = CheckpointFiles::open(directory.path()) {
            let map = identity_map(&files);
            if let Ok((parameters, _)) = load(directory.path(), &map, &options()) {
                prop_assert_eq!(parameters.len(), map.parameters.len());
            }
        }
    }

    /// As is damage anywhere in an index.
    #[test]
    fn damaged_indexes_never_panic(text in r#"[{}"]?(\{"weight_map":)?[{"]*[a-z./:\\"]{0,20}[}"]*"#) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("model.safetensors.index.json"), text).unwrap();
        prop_assert!(CheckpointFiles::open(directory.path()).is_err());
    }
}

#[test]
#[cfg(unix)]
fn links_to_nowhere_and_what_is_no_file_are_named_and_nobody_waits() {
    let link = |directory: &Path, name: &str| {
        let _ = fs::remove_file(directory.join(name));
        std::os::unix::fs::symlink("../blobs/gone", directory.join(name)).unwrap();
    };
    let pipe = |directory: &Path, name: &str| {
        let _ = fs::remove_file(directory.join(name));
        assert!(std::process::Command::new("mkfifo").arg(directory.join(name)).status().unwrap().success());
    };
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        let directory = tempfile::tempdir().unwrap();
        link(directory.path(), name);
        assert_error!(directory, LoadError::DanglingLink { .. }, name, "../blobs/gone", "does not exist");
        pipe(directory.path(), name);
        assert_error!(directory, LoadError::NotAFile { .. }, name, "a named pipe");
        fs::remove_file(directory.path().join(name)).unwrap();
        fs::create_dir(directory.path().join(name)).unwrap();
        assert_error!(directory, LoadError::NotAFile { .. }, name, "a directory");
    }
    let shard = |tensor| vec![f32s(tensor, &[1], &[1.0])];
    let of_shards = || sharded(&[("a.safetensors", shard("a")), ("b.safetensors", shard("b"))]);
    let directory = of_shards();
    link(directory.path(), "b.safetensors");
    assert_error!(directory, LoadError::DanglingLink { .. }, "b.safetensors", "../blobs/gone");
    pipe(directory.path(), "b.safetensors");
    assert_error!(directory, LoadError::NotAFile { .. }, "b.safetensors", "a named pipe");

    // transformers looks for files: a folder of that name, or a link to nowhere, is not in the way of an index.
    for obstacle in [
        |path: &Path| fs::create_dir(path).unwrap(),
        |path: &Path| {
            std::os::unix::fs::symlink("gone", path).unwrap();
        },
    ] {
        let directory = of_shards();
        obstacle(&directory.path().join("model.safetensors"));
        assert_eq!(CheckpointFiles::open(directory.path()).unwrap().tensors().len(), 2);
    }
}

#[test]
fn a_directory_with_gguf_alone_is_said_to_be_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("model-q4.gguf"), b"GGUF").unwrap();
    assert_error!(directory, LoadError::GgufWeights { .. }, "model-q4.gguf", "not supported");
}
