//! Directories, paths that lead nowhere, and names that are neither.

use automodel_hub::{Environment, HubError, HubOptions, ModelSource, resolve_with};
use std::{fs, path::Path};
use tempfile::TempDir;

fn resolve(model: &str) -> Result<automodel_hub::Checkpoint, HubError> {
    let environment = Environment { hf_hub_cache: Some("no-such-cache".into()), ..Environment::default() };
    resolve_with(model, &HubOptions::default(), &environment)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn directory_with(files: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in files {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    directory
}

#[test]
fn a_directory_is_its_own_checkpoint() {
    let directory =
        directory_with(&["config.json", "model.safetensors", "tokenizer.json", "README.md", "original/x.json"]);
    let checkpoint = resolve(text(directory.path())).unwrap();
    assert_eq!(checkpoint.dir, directory.path());
    assert_eq!(checkpoint.source, ModelSource::Directory(directory.path().to_owned()));
    assert_eq!(checkpoint.commit, None);
    assert_eq!(checkpoint.config_file(), directory.path().join("config.json"));

    let files = checkpoint.list().unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(files.iter().all(|file| file.bytes == 2 && file.path.is_file()));
}

#[test]
fn files_are_found_by_contained_names_only() {
    let parent = directory_with(&["secret.json", "model/config.json", "model/original/params.json"]);
    let model = parent.path().join("model");
    let checkpoint = resolve(text(&model)).unwrap();
    assert_eq!(checkpoint.file("original/params.json"), Some(model.join("original/params.json")));
    let absolute = parent.path().join("secret.json");
    for name in ["../secret.json", "original/../../secret.json", text(&absolute), "original", "absent.json", ""] {
        assert_eq!(checkpoint.file(name), None, "{name}");
    }
}

#[test]
fn a_directory_without_a_config_lists_what_is_there() {
    let directory = directory_with(&["model.bin", "original/params.json"]);
    let error = resolve(text(directory.path())).unwrap_err();
    let HubError::MissingConfig { found, .. } = &error else { panic!("{error}") };
    assert_eq!(found, &["model.bin", "original/"]);

    let empty = directory_with(&[]);
    assert!(resolve(text(empty.path())).unwrap_err().to_string().ends_with("it contains nothing"));

    let names: Vec<String> = (0..40).map(|number| format!("{number:02}.bin")).collect();
    let many = directory_with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let HubError::MissingConfig { found, .. } = resolve(text(many.path())).unwrap_err() else { panic!() };
    assert_eq!((found.len(), found.last().unwrap().as_str()), (12, "29 more"));
}

#[test]
fn a_config_that_is_a_directory_is_no_config() {
    let directory = directory_with(&["config.json/x"]);
    let error = resolve(text(directory.path())).unwrap_err();
    assert!(matches!(&error, HubError::Unreadable { .. }), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("it is a directory"));
}

#[test]
fn a_missing_path_names_its_neighbours() {
    let parent = directory_with(&["llama-3-8b/config.json", "qwen/config.json"]);
    let error = resolve(text(&parent.path().join("lama-3-8b"))).unwrap_err();
    let HubError::MissingPath { nearest, .. } = &error else { panic!("{error}") };
    assert_eq!(nearest, &[text(&parent.path().join("llama-3-8b"))]);
    for missing in
        ["./absent", "../absent/model", "/absent/a/b", "a/b/c", "~/models/x", "absent/", "C:\\models", "a\0/b/c"]
    {
        assert!(matches!(resolve(missing), Err(HubError::MissingPath { .. })), "{missing}");
    }
    assert!(resolve("~/models/x").unwrap_err().to_string().contains("expanded by the shell"));
}

#[test]
fn a_file_leads_to_its_directory() {
    let directory = directory_with(&["config.json", "model.safetensors"]);
    for name in ["config.json", "model.safetensors"] {
        let error = resolve(text(&directory.path().join(name))).unwrap_err();
        let HubError::NotADirectory { directory: advised, .. } = &error else { panic!("{error}") };
        assert_eq!(advised, directory.path());
    }
}

#[test]
fn weights_of_other_formats_are_named() {
    let directory = directory_with(&["config.json", "Model-Q4.GGUF", "pytorch_model.bin", "model.onnx", "sha256-abc"]);
    fs::write(directory.path().join("sha256-abc"), b"GGUF\x03\0\0\0").unwrap();
    let cases =
        [("Model-Q4.GGUF", "GGUF"), ("pytorch_model.bin", "pickle"), ("model.onnx", "ONNX"), ("sha256-abc", "GGUF")];
    for (name, expected) in cases {
        let error = resolve(text(&directory.path().join(name))).unwrap_err();
        assert!(matches!(&error, HubError::UnsupportedFormat { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("not supported") && message.contains(name), "{message}");
    }
    let only = directory_with(&["model-q4.gguf", "README.md"]);
    let error = resolve(text(only.path())).unwrap_err();
    assert!(matches!(&error, HubError::UnsupportedFormat { path, .. } if path.ends_with("model-q4.gguf")), "{error}");
}

#[test]
#[cfg(unix)]
fn what_is_neither_file_nor_directory_is_named() {
    let directory = directory_with(&["config.json"]);
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = resolve(text(&pipe)).unwrap_err();
    assert!(matches!(&error, HubError::NotADirectory { kind: "a named pipe", .. }), "{error}");

    fs::rename(&pipe, directory.path().join("generation_config.json")).unwrap();
    let checkpoint = resolve(text(directory.path())).unwrap();
    assert!(checkpoint.file("generation_config.json").is_some(), "opening it gives the error");
    assert_eq!(checkpoint.list().unwrap().len(), 1);
}

#[test]
#[cfg(unix)]
fn a_model_that_is_a_link_to_nowhere_is_said_to_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("model");
    std::os::unix::fs::symlink("gone/away", &link).unwrap();
    let error = resolve(text(&link)).unwrap_err();
    let HubError::DanglingLink { target, .. } = &error else { panic!("{error}") };
    assert_eq!(target, Path::new("gone/away"));
}

#[test]
fn other_names_are_refused_with_the_rule() {
    for name in ["", "a b", "org/..", "org/na--me", "https://huggingface.co/org/name", "org/name.git", "a\nb"] {
        let error = resolve(name).unwrap_err();
        assert!(matches!(error, HubError::InvalidRepoId { .. }), "{name:?}: {error}");
        assert!(!error.to_string().contains('\n'), "the name is escaped");
    }
}

#[test]
fn a_directory_has_no_revisions() {
    let directory = directory_with(&["config.json"]);
    let options = HubOptions { revision: Some("main".into()), ..HubOptions::default() };
    let result = resolve_with(text(directory.path()), &options, &Environment::default());
    assert!(matches!(result, Err(HubError::RevisionOfDirectory { .. })));
}

#[test]
#[cfg(unix)]
fn a_dangling_config_link_is_said_to_be_one() {
    let directory = directory_with(&["model.safetensors"]);
    std::os::unix::fs::symlink("../blobs/absent", directory.path().join("config.json")).unwrap();
    std::os::unix::fs::symlink("absent", directory.path().join("tokenizer.json")).unwrap();
    let error = resolve(text(directory.path())).unwrap_err();
    let HubError::DanglingLink { target, .. } = &error else { panic!("{error}") };
    assert_eq!(target, Path::new("../blobs/absent"));

    fs::remove_file(directory.path().join("config.json")).unwrap();
    fs::write(directory.path().join("config.json"), "{}").unwrap();
    let names: Vec<String> =
        resolve(text(directory.path())).unwrap().list().unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    let checkpoint = resolve(text(directory.path())).unwrap();
    assert!(checkpoint.file("tokenizer.json").is_some(), "opening it gives the error");
}

#[test]
#[cfg(unix)]
fn a_config_that_cannot_be_read_keeps_its_cause() {
    let directory = directory_with(&[]);
    std::os::unix::fs::symlink("config.json", directory.path().join("config.json")).unwrap();
    let error = resolve(text(directory.path())).unwrap_err();
    assert!(matches!(error, HubError::Unreadable { .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}
