//! The care of a cache.

use crate::workplace::{REPO, Workplace, files, names_below, of_storage};
use automodel_hub::{HubError, HubOptions, RepoId, list_cache, prune_cache, verify_cache};
use automodel_hub_test_server::FaultKind;
use std::fs;

#[test]
fn a_cache_is_listed_with_shared_contents_counted_once() {
    let place = Workplace::new();
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
    let place = Workplace::new();
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
    // Of another size: the next load sees that by itself.
    place.check_whole(&place.load().unwrap());

    let other = RepoId::parse("org/tinny").unwrap();
    let error = verify_cache(&HubOptions::default(), &environment, Some(&other), false).unwrap_err();
    assert!(matches!(&error, HubError::UncachedRepo { nearest, .. } if nearest == &[REPO]), "{error}");
}

#[test]
fn what_nothing_leads_to_is_pruned() {
    let place = Workplace::new();
    place.load().unwrap();
    let old = place.commit.clone();
    place.server.change(|hub| hub.repos.get_mut(REPO).unwrap().commit("main", files("2")));
    let checkpoint = place.load().unwrap();
    let environment = place.environment();
    let before = names_below(place.cache.path());
    let planned = prune_cache(&HubOptions::default(), &environment, true).unwrap();
    assert!(planned.iter().any(|pruned| pruned.path.ends_with(&old)), "{planned:?}");
    assert_eq!(names_below(place.cache.path()), before, "nothing goes in a dry run");
    let pruned = prune_cache(&HubOptions::default(), &environment, false).unwrap();
    assert_eq!(pruned.len(), 4, "a commit, its config and its two shards: {pruned:?}");
    assert!(pruned.iter().map(|pruned| pruned.bytes).sum::<u64>() > 500_000);
    assert!(!place.directory().join("snapshots").join(&old).exists());
    place.check_whole(&checkpoint);
    assert_eq!(prune_cache(&HubOptions::default(), &environment, false).unwrap(), []);
}

#[test]
fn unfinished_downloads_are_pruned() {
    let place = Workplace::new();
    place.fault(of_storage(usize::MAX, FaultKind::Cut(30_000)));
    place.load().unwrap_err();
    let report = list_cache(&HubOptions::default(), &place.environment()).unwrap();
    assert!(report.repos[0].incomplete_bytes >= 30_000);
    let pruned = prune_cache(&HubOptions::default(), &place.environment(), false).unwrap();
    assert!(pruned.iter().any(|pruned| pruned.reason.contains("not finished")), "{pruned:?}");
    assert_eq!(names_below(&place.directory().join("blobs")), Vec::<String>::new());
}
