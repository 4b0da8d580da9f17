//! What is said of files that change while parameters stay in them.

use crate::common::*;
use automodel_loader::{CheckpointFiles, FileChange, LoadError, LoadOptions, LoadPlan, LoadedParameters, execute};
use burn::tensor::Device;
use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// A checkpoint whose file was written a minute ago, so that a clock tick does not matter.
fn old_checkpoint() -> (TempDir, PathBuf) {
    let directory = checkpoint(&[f32s("w", &[4096], &counting(4096)), f32s("v", &[3], &counting(3))]);
    let path = directory.path().join("model.safetensors");
    set_modified(&path, SystemTime::now() - Duration::from_secs(60));
    (directory, path)
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn load(directory: &Path, options: &LoadOptions) -> Result<LoadedParameters, LoadError> {
    let files = CheckpointFiles::open(directory).unwrap();
    let plan = LoadPlan::new(&files, &plain_map(&[("w", &[4096]), ("v", &[3])]), options).unwrap();
    execute(&plan, &files, &Device::flex(), &mut |_| {}).map(|(loaded, _)| loaded)
}

fn overwrite(path: &Path, at: i64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::End(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[track_caller]
fn change_of(loaded: &LoadedParameters, path: &Path) -> FileChange {
    let error = loaded.mapped_files().check().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains("zero_copy(false)"), "{text}");
    let LoadError::MappedFileChanged { change, .. } = error else { panic!("{text}") };
    change
}

#[test]
fn a_file_that_changes_in_place_is_noticed() {
    let (directory, path) = old_checkpoint();
    let length = fs::metadata(&path).unwrap().len();
    let loaded = load(directory.path(), &options()).unwrap();
    assert_eq!(loaded.mapped_files().len(), 1);
    loaded.mapped_files().check().unwrap();
    loaded.clone().mapped_files().check().unwrap();

    overwrite(&path, -4, &7f32.to_le_bytes());
    assert!(matches!(change_of(&loaded, &path), FileChange::Written { .. }));
    overwrite(&path, 0, b"more");
    assert_eq!(change_of(&loaded, &path), FileChange::Length { before: length, now: length + 4 });
    // Nothing reads the pages that go.
    File::options().write(true).open(&path).unwrap().set_len(length - 8).unwrap();
    assert_eq!(change_of(&loaded, &path), FileChange::Length { before: length, now: length - 8 });
}

#[test]
fn what_happens_to_the_path_alone_does_no_harm() {
    let (directory, path) = old_checkpoint();
    let loaded = load(directory.path(), &options()).unwrap();
    let other = directory.path().join("other");
    fs::write(&other, b"another file").unwrap();
    fs::rename(&other, &path).unwrap();
    loaded.mapped_files().check().unwrap();
    overwrite(&path, 0, b"which is changed");
    fs::remove_file(&path).unwrap();
    loaded.mapped_files().check().unwrap();
    assert_eq!(values(&loaded, "w"), counting(4096));
}

#[test]
fn parameters_that_were_copied_need_no_file() {
    let (directory, path) = old_checkpoint();
    let mut copying = options();
    copying.zero_copy = false;
    let loaded = load(directory.path(), &copying).unwrap();
    assert!(loaded.mapped_files().is_empty());
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    loaded.mapped_files().check().unwrap();
    assert_eq!(values(&loaded, "w"), counting(4096));
}

#[test]
fn a_file_that_changes_before_or_while_it_is_loaded_is_refused() {
    let (directory, path) = old_checkpoint();
    let files = CheckpointFiles::open(directory.path()).unwrap();
    let plan = LoadPlan::new(&files, &plain_map(&[("w", &[4096]), ("v", &[3])]), &options()).unwrap();
    let during = execute(&plan, &files, &Device::flex(), &mut |_| overwrite(&path, -4, &[0; 4])).unwrap_err();
    assert!(matches!(during, LoadError::MappedFileChanged { .. }), "{during}");
    let before = execute(&plan, &files, &Device::flex(), &mut |_| {}).unwrap_err();
    let LoadError::ShardChanged { change: FileChange::Written { .. }, .. } = before else { panic!("{before}") };
}
