//! Lock files.

use crate::fixture::{Fixture, REPO, files};
use automodel_hub::{HubError, HubOptions, LockFile, lock_with};
use std::{fs, path::Path};

fn write_lock(place: &Fixture, path: &Path) {
    let mut lock = LockFile::default();
    lock.insert(lock_with(REPO, &place.options(), &place.environment()).unwrap());
    lock.write(path).unwrap();
}

fn locked(place: &Fixture, path: &Path) -> HubOptions {
    HubOptions { lock_file: Some(path.to_owned()), ..place.options() }
}

#[test]
fn a_locked_commit_is_loaded_wherever_the_branch_is() {
    let place = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("automodel.lock");
    write_lock(&place, &path);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(&place.commit) && text.contains("sha256:") && text.contains("git-sha1:"), "{text}");
    assert_eq!(LockFile::read(&path).unwrap().models().next().unwrap().files.len(), 5);

    place.server.change(|hub| hub.repos.get_mut(REPO).unwrap().commit("main", files("2")));
    let fresh = tempfile::tempdir().unwrap();
    let options = HubOptions { cache_dir: Some(fresh.path().to_owned()), ..locked(&place, &path) };
    assert_eq!(place.load_with(&options).unwrap().commit.as_deref(), Some(place.commit.as_str()));
    let offline = HubOptions { offline: true, revision: Some(place.commit.clone()), ..options };
    assert_eq!(place.load_with(&offline).unwrap().commit.as_deref(), Some(place.commit.as_str()));
}

#[test]
fn everything_else_is_refused() {
    let place = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("automodel.lock");
    write_lock(&place, &path);
    let text = fs::read_to_string(&path).unwrap();
    let options = locked(&place, &path);
    place.load_with(&options).unwrap();

    let other = HubOptions { revision: Some("v2".to_owned()), ..options.clone() };
    assert!(matches!(place.load_with(&other), Err(HubError::LockMismatch { .. })));

    // Another hash, another size, a file less, a file more.
    let model = LockFile::read(&path).unwrap().models().next().unwrap().clone();
    let mut changes = vec![text.replacen("sha256:", "sha256:0", 1), text.replacen("\"bytes\": 3", "\"bytes\": 4", 1)];
    for (from, to) in [("tokenizer.json", "tokenizer_config.json"), ("config.json", "added_tokens.json")] {
        let mut less = model.clone();
        let file = less.files.remove(from).unwrap();
        let mut lock = LockFile::default();
        lock.insert(less.clone());
        lock.write(&path).unwrap();
        changes.push(fs::read_to_string(&path).unwrap());
        less.files.insert(to.to_owned(), file);
        lock.insert(less);
        lock.write(&path).unwrap();
        changes.push(fs::read_to_string(&path).unwrap());
    }
    for changed in changes {
        assert_ne!(changed, text);
        fs::write(&path, &changed).unwrap();
        for offline in [false, true] {
            let options = HubOptions { offline, revision: Some(place.commit.clone()), ..options.clone() };
            let error = place.load_with(&options).unwrap_err();
            assert!(matches!(error, HubError::LockMismatch { .. }), "{error}");
        }
    }

    fs::write(&path, text.replace("org/tiny", "org/other")).unwrap();
    assert!(matches!(place.load_with(&options), Err(HubError::NotLocked { .. })));
    for bad in [
        "",
        "{}",
        "{\"version\": 2, \"models\": []}",
        &text.replace(&place.commit, "main"),
        &text.replace("files", "filez"),
    ] {
        fs::write(&path, bad).unwrap();
        assert!(matches!(place.load_with(&options), Err(HubError::MalformedLockFile { .. })), "{bad}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(place.load_with(&options), Err(HubError::Unreadable { .. })));
}

#[test]
#[cfg(unix)]
fn a_file_that_was_exchanged_in_the_cache_is_refused() {
    let place = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("automodel.lock");
    write_lock(&place, &path);
    let options = locked(&place, &path);
    let checkpoint = place.load_with(&options).unwrap();
    let file = checkpoint.dir.join("tokenizer.json");
    fs::remove_file(&file).unwrap();
    fs::write(&file, vec![b'y'; 3_000]).unwrap();
    assert!(matches!(place.load_with(&options), Err(HubError::LockMismatch { .. })));
}
