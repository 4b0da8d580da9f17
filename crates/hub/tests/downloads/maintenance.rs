//! Maintenance of a cache.

use crate::fixture::{Fixture, REPO, files, names_below, of_storage};
use automodel_hub::{Environment, HubError, HubOptions, PruneReport, RepoId, list_cache, prune_cache, verify_cache};
use automodel_hub_test_server::FaultKind;
use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn a_cache_is_listed_with_shared_contents_counted_once() {
    let place = Fixture::new();
    place.load().unwrap();
    place.server.change(|hub| hub.repos.get_mut(REPO).unwrap().commit("main", files("2")));
    place.load().unwrap();
    let report = list_cache(&HubOptions::default(), &place.environment()).unwrap();
    let [repo] = report.repos.as_slice() else { panic!("{report:?}") };
    assert_eq!((repo.repo.as_str(), repo.revisions.len(), repo.incomplete_bytes), (REPO, 2, 0));
    assert!(repo.revisions.iter().all(|revision| revision.files == 5));
    let of_commits: u64 = repo.revisions.iter().map(|revision| revision.bytes).sum();
    assert!(repo.bytes < of_commits && repo.bytes == report.bytes);
    let old = repo.revisions.iter().find(|revision| revision.commit == place.commit).unwrap();
    assert_eq!(old.refs, Vec::<String>::new());
}

#[test]
fn damage_is_found_and_removed_on_request() {
    let place = Fixture::new();
    let checkpoint = place.load().unwrap();
    let environment = place.environment();
    let blob = fs::canonicalize(checkpoint.dir.join("model-00001-of-00002.safetensors")).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let problems = verify_cache(&HubOptions::default(), &environment, None, false).unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].problem.contains("sha256:") && !problems[0].removed);
    let repo = RepoId::parse(REPO).unwrap();
    let problems = verify_cache(&HubOptions::default(), &environment, Some(&repo), true).unwrap();
    assert!(problems.len() == 2 && problems.iter().all(|problem| problem.removed), "{problems:?}");
    place.check_whole(&place.load().unwrap());

    fs::write(&blob, &bytes[..1_000]).unwrap();
    assert_eq!(verify_cache(&HubOptions::default(), &environment, None, false).unwrap().len(), 2);
    // With another size: the next load detects that.
    place.check_whole(&place.load().unwrap());

    let other = RepoId::parse("org/tinny").unwrap();
    let error = verify_cache(&HubOptions::default(), &environment, Some(&other), false).unwrap_err();
    assert!(matches!(&error, HubError::UncachedRepo { nearest, .. } if nearest == &[REPO]), "{error}");
}

#[test]
fn what_nothing_leads_to_is_pruned() {
    let place = Fixture::new();
    place.load().unwrap();
    let old = place.commit.clone();
    place.server.change(|hub| hub.repos.get_mut(REPO).unwrap().commit("main", files("2")));
    let checkpoint = place.load().unwrap();
    let environment = place.environment();
    let before = names_below(place.cache.path());
    let planned = prune_cache(&HubOptions::default(), &environment, true).unwrap();
    assert!(planned.removed.iter().any(|pruned| pruned.path.ends_with(&old)), "{planned:?}");
    assert_eq!(names_below(place.cache.path()), before, "nothing goes in a dry run");
    let pruned = prune_cache(&HubOptions::default(), &environment, false).unwrap().removed;
    assert_eq!(pruned.len(), 4, "a commit, its config and its two shards: {pruned:?}");
    assert!(pruned.iter().map(|pruned| pruned.bytes).sum::<u64>() > 500_000);
    assert!(!place.directory().join("snapshots").join(&old).exists());
    place.check_whole(&checkpoint);
    assert_eq!(prune_cache(&HubOptions::default(), &environment, false).unwrap(), PruneReport::default());
}

#[test]
fn unfinished_downloads_are_pruned() {
    let place = Fixture::new();
    place.fault(of_storage(usize::MAX, FaultKind::Cut(30_000)));
    place.load().unwrap_err();
    let report = list_cache(&HubOptions::default(), &place.environment()).unwrap();
    assert!(report.repos[0].incomplete_bytes >= 30_000);
    let pruned = prune_cache(&HubOptions::default(), &place.environment(), false).unwrap().removed;
    assert!(pruned.iter().any(|pruned| pruned.reason.contains("not finished")), "{pruned:?}");
    assert_eq!(names_below(&place.directory().join("blobs")), Vec::<String>::new());
}

/// A cache with one commit, whose only reference and whose only file are where they are asked to be.
fn cache_with(reference: Option<&str>, file: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (cache, commit) = (tempfile::tempdir().unwrap(), "a".repeat(40));
    let repo = cache.path().join("models--org--tiny");
    let path = repo.join("snapshots").join(&commit).join(file);
    let blob = repo.join("blobs").join("b".repeat(40));
    for path in [&path, &blob] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    fs::write(&blob, "hello").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&blob, &path).unwrap();
    #[cfg(not(unix))]
    fs::copy(&blob, &path).unwrap();
    if let Some(reference) = reference {
        let path = repo.join("refs").join(reference);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, commit).unwrap();
    }
    (cache, path, repo)
}

fn pruned(cache: &Path) -> PruneReport {
    let options = HubOptions { cache_dir: Some(cache.to_owned()), ..HubOptions::default() };
    prune_cache(&options, &Environment::default(), false).unwrap()
}

#[test]
fn references_and_files_count_however_deep_they_lie() {
    let deep = "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/x";
    for (reference, file) in [(deep, "config.json"), ("main", deep)] {
        let (cache, path, _) = cache_with(Some(reference), file);
        assert_eq!(pruned(cache.path()), PruneReport::default());
        assert_eq!(fs::read_to_string(path).unwrap(), "hello");
    }
    let (cache, path, _) = cache_with(None, "config.json");
    assert_eq!(pruned(cache.path()).removed.len(), 2, "without a reference it goes");
    assert!(!path.exists());
}

#[test]
fn ten_thousand_references_and_more_count() {
    let (cache, path, repo) = cache_with(Some("refs/zz/1"), "config.json");
    let other = "c".repeat(40);
    fs::create_dir_all(repo.join("refs/pr")).unwrap();
    for number in 0..10_200 {
        fs::write(repo.join("refs/pr").join(number.to_string()), &other).unwrap();
    }
    assert_eq!(pruned(cache.path()), PruneReport::default());
    assert!(path.exists());
}

#[test]
fn what_cannot_be_judged_is_kept_and_named() {
    let (cache, path, repo) = cache_with(None, "config.json");
    let reference = repo.join("refs/main");
    fs::create_dir_all(reference.parent().unwrap()).unwrap();
    let check = |named: &Path| {
        let report = pruned(cache.path());
        assert_eq!(report.removed, [], "{}", named.display());
        assert!(report.kept.iter().any(|kept| kept.path == named && !kept.reason.is_empty()), "{report:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
    };
    for contents in ["", "not a commit", &"a".repeat(100_000)] {
        fs::write(&reference, contents).unwrap();
        check(&reference);
    }
    fs::remove_file(&reference).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::{ffi::OsStrExt, fs::symlink};
        symlink("gone", &reference).unwrap();
        check(&reference);
        fs::remove_file(&reference).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&reference).status().unwrap().success());
        check(&reference);
        fs::remove_file(&reference).unwrap();

        // A folder that cannot be entered, among the references or in the snapshot, may hold anything.
        let outside = tempfile::tempdir().unwrap();
        let snapshot = path.parent().unwrap();
        for place in [repo.join("refs/folder"), snapshot.join("folder"), repo.join("snapshots/folder")] {
            symlink(outside.path(), &place).unwrap();
            check(&place);
            fs::remove_file(&place).unwrap();
        }
        let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
        // Some file systems have no such names.
        if fs::create_dir(repo.join("refs").join(odd)).is_ok() {
            let report = pruned(cache.path());
            assert!(report.removed.is_empty() && report.kept.len() == 1, "{report:?}");
            fs::remove_dir(repo.join("refs").join(odd)).unwrap();
        }
    }
    assert_eq!(pruned(cache.path()).removed.len(), 2, "nothing is in the way any more");
}

#[test]
fn what_no_download_makes_is_left_among_the_blobs() {
    let (cache, _, repo) = cache_with(Some("main"), "config.json");
    for name in ["thesis.txt", ".hidden", &"d".repeat(39)] {
        fs::write(repo.join("blobs").join(name), "precious").unwrap();
    }
    fs::write(repo.join("blobs").join("d".repeat(40)), "garbage").unwrap();
    assert_eq!(pruned(cache.path()).removed.len(), 1);
    assert_eq!(names_below(&repo.join("blobs")).len(), 4);
}

#[test]
fn damage_is_not_removed_while_a_load_goes_on() {
    let place = Fixture::new();
    let checkpoint = place.load().unwrap();
    let blob = fs::canonicalize(checkpoint.dir.join("model-00001-of-00002.safetensors")).unwrap();
    fs::write(&blob, "damaged").unwrap();
    let locks = place.cache.path().join(".locks/models--org--tiny");
    let load = fs::File::create(locks.join("load-1-1.lock")).unwrap();
    load.lock().unwrap();
    let verify = || verify_cache(&HubOptions::default(), &place.environment(), None, true).unwrap();
    assert!(verify().iter().all(|problem| !problem.removed) && blob.exists());
    drop(load);
    assert!(verify().iter().all(|problem| problem.removed) && !blob.exists());
    assert!(!locks.join("load-1-1.lock").exists(), "what a dead process leaves goes");
}
